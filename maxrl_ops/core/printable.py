"""Text from logs, settings and file names is hostile: a model may have written it.

Nothing of it may reach a terminal as a control sequence (it could retitle the window, fill the
clipboard or hide lines), or turn text around there or on a page. Pure.
"""

import re

# C0 and DEL, C1, line and paragraph separators, marks that reorder or hide text, and halves of
# surrogate pairs, which no encoder takes.
_UNSAFE = (
    r"\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff"
    r"\ud800-\udfff"
)
_CONTROL = re.compile(f"[{_UNSAFE}]")
_SPACE = re.compile(f"[\\t\\n{_UNSAFE}]+")


def one_line(text: str) -> str:
    """`text` on one line: whatever is not plain becomes a space."""
    return _SPACE.sub(" ", text).strip()


def visible(text: str) -> str:
    """`text` with its control characters spelt out, newlines and tabs kept: ESC is `^[`."""
    return _CONTROL.sub(lambda match: _spell(ord(match[0])), text)


def _spell(code: int) -> str:
    if code < 0x20:
        return f"^{chr(code + 0x40)}"
    return "^?" if code == 0x7F else f"<U+{code:04X}>"
