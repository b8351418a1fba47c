"""Rust as a syntax tree. Nothing here recurses, so that deep nesting costs memory but no stack."""

from collections.abc import Iterator

import tree_sitter_rust
from tree_sitter import Language, Node, Parser

COMMENTS = frozenset({"line_comment", "block_comment"})
OPAQUE = COMMENTS | {"string_literal", "raw_string_literal", "char_literal", "lifetime"}

_RUST = Language(tree_sitter_rust.language())


def parse(source: bytes) -> Node:
    """The root of `source`'s tree; `has_error` says whether it is well formed."""
    return Parser(_RUST).parse(source).root_node


def text(node: Node | None) -> str:
    """What stands in the source there."""
    return "" if node is None or node.text is None else node.text.decode()


def field(node: Node, name: str) -> str:
    """The text of the node's field `name`."""
    return text(node.child_by_field_name(name))


def walk(root: Node) -> Iterator[tuple[Node, int]]:
    """All nodes with their depth, in source order; comments and literals are not entered."""
    stack = [(root, 0)]
    while stack:
        node, depth = stack.pop()
        yield node, depth
        if node.type not in OPAQUE:
            stack.extend((child, depth + 1) for child in reversed(node.children))


def attributes(item: Node) -> Iterator[str]:
    """The outer attributes of `item`, without `#[` and `]`: `cfg(test)`."""
    before = item.prev_named_sibling
    while before is not None and before.type in COMMENTS | {"attribute_item"}:
        if before.type == "attribute_item":
            yield "".join(text(before)[2:-1].split())
        before = before.prev_named_sibling


def outside_tests(root: Node) -> Iterator[Node]:
    """All nodes but those of `#[cfg(test)]` items; comments and literals are not entered."""
    stack = [root]
    while stack:
        node = stack.pop()
        yield node
        if node.type not in OPAQUE:
            stack.extend(child for child in node.children if not is_for_tests(child))


def is_for_tests(item: Node) -> bool:
    """A module or function that a build of the tests alone has."""
    return item.type in ("mod_item", "function_item") and not {"cfg(test)", "test"}.isdisjoint(
        attributes(item)
    )
