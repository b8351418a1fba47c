"""What can be counted in Rust code: structure, care, idioms, complexity. Pure measurement.

What a count is worth is trainer.reward's. Code for tests (`#[cfg(test)]`) is left out: nobody is
to earn anything by testing at length. The measures are those of the system that the guide grew
from, as far as their names tell what they were.
"""

from collections import Counter
from collections.abc import Iterator

from tree_sitter import Node

from trainer.verify.syntax import COMMENTS, OPAQUE, field, is_for_tests, outside_tests, parse, text

# Above these, complexity counts.
_CYCLOMATIC, _NESTING = 10, 3

_ITEMS = {
    "function_item": "functions",
    "struct_item": "structs",
    "enum_item": "enums",
    "trait_item": "traits",
}
_ITERATION = frozenset(
    "iter iter_mut into_iter chars bytes lines windows chunks map filter filter_map flat_map fold"
    " zip enumerate rev take skip take_while skip_while any all find position sum product count"
    " collect for_each copied cloned chain scan".split()
)
_PANICS = frozenset({"panic", "todo", "unimplemented", "unreachable"})
_BRANCHES = frozenset(
    "if_expression while_expression for_expression loop_expression match_arm try_expression"
    " && ||".split()
)
_NESTED = frozenset(
    "if_expression while_expression for_expression loop_expression match_expression"
    " closure_expression".split()
)
_PATTERNS = frozenset("tuple_pattern struct_pattern tuple_struct_pattern slice_pattern".split())
_BINDINGS = frozenset("let_declaration parameter closure_parameters for_expression".split())

# Every measure there is, so that weights for others can be refused.
MEASURES = (
    "functions",
    "structs",
    "enums",
    "traits",
    "result",
    "option",
    "docs",
    "doc_coverage",
    "question_mark",
    "unsafe",
    "panics",
    "iterators",
    "match",
    "destructuring",
    "closures",
    "chaining",
    "turbofish",
    "cyclomatic_excess",
    "nesting_excess",
    "short",
    "medium",
    "long",
)


def measure(source: str) -> dict[str, float]:
    """Every measure of well-formed `source`.

    `functions` (outside of impls and traits), `structs`, `enums`, `traits`, `unsafe` and `panics`
    are counts; `doc_coverage` is the share of items with a doc comment; `cyclomatic_excess` is how
    far the most complex function is above 10, `nesting_excess` how many levels the deepest is above
    3. Everything else is 1 where it occurs and 0 where it does not: `short` under 5 lines, `medium`
    from 10 to 100, `long` over 200, of lines with something on them.
    """
    root = parse(source.encode())
    counts: Counter[str] = Counter()
    for node in outside_tests(root):
        counts.update(_of_node(node))
    items = [item for item in _items(root) if item.type in _ITEMS]
    counts.update(_ITEMS[item.type] for item in items)
    documented = sum(_is_documented(item) for item in items)
    lines = _lines(root)
    flags = {name: float(counts[name] > 0) for name in MEASURES}
    amounts = ("functions", "structs", "enums", "traits", "unsafe", "panics")
    cyclomatic, nesting = _complexity(root)
    return {
        **flags,
        **{name: float(counts[name]) for name in amounts},
        "doc_coverage": documented / len(items) if items else 0.0,
        "cyclomatic_excess": float(max(0, cyclomatic - _CYCLOMATIC)),
        "nesting_excess": float(max(0, nesting - _NESTING)),
        "short": float(lines < 5),
        "medium": float(10 <= lines <= 100),
        "long": float(lines > 200),
    }


def _items(root: Node) -> Iterator[Node]:
    """Items of the file and of its modules, not those inside of functions, impls and traits."""
    stack = [root]
    while stack:
        for child in stack.pop().named_children:
            if child.type == "mod_item" and not is_for_tests(child):
                body = child.child_by_field_name("body")
                stack += [] if body is None else [body]
            elif not is_for_tests(child):
                yield child


def _of_node(node: Node) -> Iterator[str]:
    """The measures that one node adds to, by its kind."""
    match node.type:
        case "type_identifier" if text(node) in ("Result", "Option"):
            yield text(node).lower()
        case "line_comment" | "block_comment" if _is_doc(node):
            yield "docs"
        case "try_expression":
            yield "question_mark"
        case "unsafe":
            yield "unsafe"
        case "macro_invocation" if field(node, "macro") in _PANICS:
            yield "panics"
        case "match_expression":
            yield "match"
        case "closure_expression":
            yield "closures"
        case "generic_function":
            yield "turbofish"
        case "call_expression":
            yield from _of_call(node)
        case kind if kind in _BINDINGS and _takes_apart(node):
            yield "destructuring"


def _takes_apart(binding: Node) -> bool:
    pattern = binding.child_by_field_name("pattern")
    patterns = binding.named_children if pattern is None else [pattern]
    return any(each.type in _PATTERNS for each in patterns)


def _of_call(call: Node) -> Iterator[str]:
    method = _method(call)
    if method is None:
        return
    if field(method, "field") in _ITERATION:
        yield "iterators"
    receiver = method.child_by_field_name("value")
    if receiver is not None and receiver.type == "call_expression" and _method(receiver):
        yield "chaining"


def _method(call: Node) -> Node | None:
    """The `receiver.name` of a method call."""
    function = call.child_by_field_name("function")
    if function is not None and function.type == "generic_function":
        function = function.child_by_field_name("function")
    return function if function is not None and function.type == "field_expression" else None


def _is_doc(comment: Node) -> bool:
    return text(comment).startswith(("///", "//!", "/**", "/*!")) and not text(comment).startswith(
        ("////", "/***", "/**/")
    )


def _is_documented(item: Node) -> bool:
    before = item.prev_named_sibling
    while before is not None and before.type in COMMENTS | {"attribute_item"}:
        if _is_doc(before):
            return True
        before = before.prev_named_sibling
    return False


def _complexity(root: Node) -> tuple[int, int]:
    """The highest cyclomatic complexity of a function, and the deepest nesting of its blocks."""
    cyclomatic, nesting = 1, 0
    for function in outside_tests(root):
        if function.type != "function_item":
            continue
        branches, stack = 1, [(function, 0)]
        while stack:
            node, depth = stack.pop()
            # One arm of a match is taken anyway.
            branches += (node.type in _BRANCHES) - (node.type == "match_expression")
            depth += node.type in _NESTED
            nesting = max(nesting, depth)
            # `else if` goes on where its `if` is.
            is_else = node.type == "else_clause"
            stack += [
                (child, depth - (is_else and child.type == "if_expression"))
                for child in (() if node.type in OPAQUE else node.children)
                if child.type != "function_item"
            ]
        cyclomatic = max(cyclomatic, branches)
    return cyclomatic, nesting


def _lines(root: Node) -> int:
    """Lines with something on them, outside of test code."""
    rows: set[int] = set()
    for node in outside_tests(root):
        if node.child_count == 0 or node.type in OPAQUE:
            rows.update(range(node.start_point.row, node.end_point.row + 1))
    return len(rows)
