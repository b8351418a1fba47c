"""What is read off the source before a compiler sees it: well formed, allowed, trivial.

The guard keeps one candidate from changing another's verdict (they share a crate) and keeps the
compiler from reading the host. The sandbox is the wall; this is the sign in front of it.
"""

import re
from dataclasses import dataclass

from tree_sitter import Node

from trainer.verify.syntax import COMMENTS, OPAQUE, field, outside_tests, parse, text, walk

MAX_BYTES = 32 * 1024
MAX_FILE_BYTES = 8 * MAX_BYTES
MAX_DEPTH = 200  # of the syntax tree; 20,000 nested parentheses crash rustc


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ALLOWED_MACROS = _words(
    "vec matches format write writeln panic todo unimplemented unreachable assert assert_eq"
    " assert_ne debug_assert debug_assert_eq debug_assert_ne"
)
# What a pure function may need: nothing that reads the host, waits, spawns or prints.
_ALLOWED_MODULES = _words(
    "any array ascii bool borrow boxed cell char clone cmp collections convert default error f32"
    " f64 fmt hash i8 i16 i32 i64 i128 isize iter marker mem num ops option prelude primitive rc"
    " result slice str string u8 u16 u32 u64 u128 usize vec"
)
_REFUSED_WORDS = _words("unsafe extern crate super mod trait static macro macro_rules!")
# A file that is judged alone has no neighbour to reach for. A macro of its own could put together
# what is looked for here, token by token.
_REFUSED_IN_FILES = _REFUSED_WORDS - _words("crate super mod trait static")
# `allow` would buy a clean verdict, `path` and `cfg_attr` would read and hide.
_ALLOWED_ATTRIBUTES = _words(
    "cfg(test) test should_panic derive default inline must_use doc repr non_exhaustive cold"
    " track_caller"
)
# `if !(x)` inside a macro's arguments is no macro call named `if`.
_KEYWORDS = _words("as break else if in let loop match move mut ref return while yield where dyn")
_GIVING_UP = frozenset({"todo", "unimplemented", "panic", "unreachable"})

# In the text, because inside a macro's arguments there is no syntax tree.
_GLOB_IMPORT = re.compile(r"\buse\b[^;]*\*")


@dataclass(frozen=True, slots=True)
class Reading:
    """What the source looks like.

    Attributes:
        parsed: Well formed, and exactly one function of the expected name besides comments.
        refused: The construct that keeps it from being compiled, or None.
        trivial: It uses none of its parameters, or does nothing but give up or loop.
        alone: It must not be compiled together with others: a glob import that cannot be resolved
            keeps rustc from reporting unknown names anywhere in the crate.
    """

    parsed: bool
    refused: str | None = None
    trivial: bool = False
    alone: bool = False

    @property
    def allowed(self) -> bool:
        """It may be compiled."""
        return self.parsed and self.refused is None


@dataclass(frozen=True, slots=True)
class _Token:
    """A leaf of the syntax tree; `kind` is its parent's type."""

    text: str
    kind: str


def read(source: str, function: str) -> Reading:
    """Judge `source`, a whole file that should hold nothing but `function`; never raises.

    Something too long is not even parsed: no credit for well-formedness can be had by length.
    """
    try:
        encoded = source.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return Reading(parsed=False)
    if len(encoded) > MAX_BYTES:
        return Reading(parsed=False, refused=f"more than {MAX_BYTES} bytes")
    root = parse(encoded)
    if root.has_error or "\0" in source:
        return Reading(parsed=False)
    items = [child for child in root.children if child.type not in COMMENTS]
    if any(item.type in ("attribute_item", "inner_attribute_item") for item in items):
        return Reading(parsed=True, refused="attribute")
    if len(items) != 1 or not _is_function(items[0], function):
        return Reading(parsed=False)
    refused = _strange_character(source) or _refused_construct(root)
    alone = _GLOB_IMPORT.search(source) is not None
    return Reading(parsed=True, refused=refused, trivial=_is_trivial(items[0]), alone=alone)


def read_file(source: bytes) -> Reading:
    """Judge a whole file of any items, which is compiled alone; never raises.

    It is trivial where no function of it, tests aside, does anything: an empty file is.
    """
    if len(source) > MAX_FILE_BYTES:
        return Reading(parsed=False, refused=f"more than {MAX_FILE_BYTES} bytes")
    root = parse(source)
    try:
        decoded = source.decode()
    except UnicodeDecodeError:
        return Reading(parsed=False)
    if root.has_error or "\0" in decoded:
        return Reading(parsed=False)
    refused = (
        _strange_character(decoded.replace("\r\n", "\n"))
        or _refused_item(root)
        or _refused_construct(root, is_file=True)
    )
    trivial = all(_is_trivial(node) for node in outside_tests(root) if node.type == "function_item")
    return Reading(parsed=True, refused=refused, trivial=trivial, alone=True)


def has_main(source: bytes) -> bool:
    """The file is a program's: it has a function `main` of its own."""
    return any(_is_function(item, "main") for item in parse(source).children)


def _refused_item(root: Node) -> str | None:
    """What a file's attributes and modules may not be."""
    for node, _ in walk(root):
        if node.type == "inner_attribute_item":
            return "attribute"
        if node.type == "attribute_item":
            words = "".join(text(node)[2:-1].split())
            name = words if words.startswith("cfg(") else re.split(r"\W", words, maxsplit=1)[0]
            if name not in _ALLOWED_ATTRIBUTES:
                return f"attribute {name[:40]}"
        if node.type == "mod_item" and node.child_by_field_name("body") is None:
            return "mod"
    return None


def _is_function(item: Node, name: str) -> bool:
    return item.type == "function_item" and field(item, "name") == name


def _strange_character(source: str) -> str | None:
    """Characters on which rustc's and tree-sitter's idea of a line or a space may differ."""
    for character in source:
        if character not in "\n\t" and not character.isprintable():
            return f"character U+{ord(character):04X}"
    return None


def _refused_construct(root: Node, *, is_file: bool = False) -> str | None:
    tokens = []
    for node, depth in walk(root):
        if depth > MAX_DEPTH:
            return f"nesting deeper than {MAX_DEPTH}"
        if node.child_count == 0 and node.type not in OPAQUE:
            kind = "" if node.parent is None else node.parent.type
            tokens.append(_Token(text(node).removeprefix("r#"), kind))
    tokens += [_Token("", "")] * 2  # so that looking ahead never runs out
    for index, token in enumerate(tokens[:-2]):
        before = tokens[index - 1].text if index else ""
        after, second = tokens[index + 1].text, tokens[index + 2].text
        refused = _refused_call(token, before, after, second)
        if is_file and token.text in _REFUSED_IN_FILES:
            refused = token.text
        elif not is_file:
            refused = refused or _refused_token(token, before, after)
        if refused is None and token.text in ("std", "core", "alloc"):
            refused = _refused_path(tokens, index)
        if refused is not None:
            return refused
    return None


def _refused_token(token: _Token, before: str, after: str) -> str | None:
    """What is wrong with one token, in a candidate that shares its crate."""
    word = token.text
    if word in _REFUSED_WORDS and (word, before) != ("static", "'"):  # a lifetime
        return word
    if word == "impl" and token.kind != "abstract_type":  # `-> impl Iterator` is fine
        return word
    if word == "#":
        return "attribute"
    if word == "self" and after == "::":
        return "self::"
    return None


def _refused_call(token: _Token, before: str, after: str, second: str) -> str | None:
    """What is wrong with the macro call that begins at the token, if one does."""
    word = token.text
    is_call = after == "!" and second in ("(", "[", "{") and (word[:1].isalpha() or word[:1] == "_")
    if is_call and word not in _KEYWORDS and (word not in _ALLOWED_MACROS or before == "::"):
        return f"{word}!"
    return None


def _refused_path(tokens: list[_Token], index: int) -> str | None:
    """What is wrong with the path that starts at `tokens[index]`, which names a standard crate."""
    root = tokens[index].text
    if tokens[index + 1].text != "::":
        # A variable may be called `core`; `use std as s` would hide what follows.
        return root if tokens[index].kind.startswith("use_") else None
    if tokens[index + 2].text != "{":
        return _refused_module(root, tokens[index + 2].text)
    depth, first = 0, False  # use std::{cmp, collections::{HashMap, HashSet}};
    for token in tokens[index + 2 :]:
        if first and depth == 1 and (refused := _refused_module(root, token.text)):
            return refused
        depth += (token.text == "{") - (token.text == "}")
        first = token.text in ("{", ",")
        if depth == 0:
            break
    return None


def _refused_module(root: str, module: str) -> str | None:
    return None if module in _ALLOWED_MODULES or module == "}" else f"{root}::{module}"


def _is_trivial(function: Node) -> bool:
    body = function.child_by_field_name("body")
    parameters = function.child_by_field_name("parameters")
    if body is None or parameters is None:
        return False
    statements = [child for child in body.named_children if child.type not in COMMENTS]
    if not statements or (len(statements) == 1 and _gives_up(statements[0])):
        return True
    names = set()
    for parameter in parameters.named_children:
        if parameter.type == "self_parameter":
            names.add("self")
        pattern = parameter.child_by_field_name("pattern")
        if pattern is not None:
            names |= _identifiers(pattern)
    return bool(parameters.named_children) and not (names & _identifiers(body))


def _gives_up(statement: Node) -> bool:
    """`todo!()` and its like, `loop {}`, also as a statement or behind `return`."""
    while statement.type in ("expression_statement", "return_expression"):
        if not statement.named_children:
            return False
        statement = statement.named_children[0]
    if statement.type == "macro_invocation":
        return field(statement, "macro") in _GIVING_UP
    if statement.type == "loop_expression":
        block = statement.child_by_field_name("body")
        return block is not None and all(c.type in COMMENTS for c in block.named_children)
    return False


def _identifiers(root: Node) -> set[str]:
    """Names that occur below `root`, except where a `let` binds them or throws a value away."""
    names = set()
    stack = [root]
    while stack:
        node = stack.pop()
        if node.type in ("identifier", "self"):
            names.add(text(node))
        elif node.type == "string_literal":
            names |= _inline_arguments(text(node))
        elif node.type == "let_declaration":
            if not field(node, "pattern").startswith("_"):
                stack += [
                    part
                    for field in ("value", "alternative")
                    if (part := node.child_by_field_name(field)) is not None
                ]
            continue
        stack += node.children
    return names


def _inline_arguments(literal: str) -> set[str]:
    """Names in braces, as in `format!("{name:?}")`; a few too many outside of a format string."""
    return {part.partition("}")[0].partition(":")[0].strip() for part in literal.split("{")[1:]}
