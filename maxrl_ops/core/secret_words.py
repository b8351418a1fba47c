"""Secrets in a command's words: refused where they are certain, masked where they may be. Pure."""

import re
import shlex
from collections.abc import Sequence
from itertools import zip_longest

# A name that ends so has a secret for its value; a token may be a word of a language.
_NAME = re.compile(
    r"(?i)(^|[-_])(password|passwd|secret|credentials?|api[-_]?key|(access|auth|hf|api|bearer)[-_]token)$"
)
# As Hugging Face, OpenAI and alike, GitHub, GitLab, Slack and AWS write theirs.
_VALUE = re.compile(
    r"\b(hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{20,}"
    r"|github_pat_\w{20,}|glpat-[\w-]{20,}|xox[abp]-[\w-]{10,}|AKIA[0-9A-Z]{16})\b"
)
# Nobody is refused for these, but a page that is passed on does well without their values.
_NAME_PERHAPS = re.compile(
    r"(?i)pass(?!es)|pwd|secret|credential|auth(?!or)|token(?!s|iz)|key(?!s)"
)
_USER_OF_URL = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_MASK = "***"


def first_in(command: Sequence[str]) -> str | None:
    """What tells a secret, the name of an argument where it has one; None where nothing does."""
    for word, after in zip_longest(command, command[1:], fillvalue=""):
        name, equals, value = word.partition("=")
        given = value if equals else after * name.startswith("-")
        if given and _NAME.search(name):
            return repr(name)
        if _VALUE.search(word):
            return "an argument of the command"
    return None


def masked(command: Sequence[str]) -> str:
    """The command as a shell takes it, `***` for each value that may be a secret."""
    shown, is_value = [], False
    for word in command:
        name, equals, _ = word.partition("=")
        is_named = _NAME_PERHAPS.search(name) is not None
        if _VALUE.search(word) or (is_value and not word.startswith("-")):
            shown.append(_MASK)
        elif equals and is_named:
            shown.append(f"{shlex.quote(name)}={_MASK}")
        else:
            shown.append(_USER_OF_URL.sub(_MASK, shlex.quote(word)))
        is_value = is_named and not equals and word.startswith("-")
    return " ".join(shown)
