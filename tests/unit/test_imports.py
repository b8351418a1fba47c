"""Imports point one way, and nothing light becomes heavy: DESIGN.md's layout, enforced."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import maxrl_ops
import trainer

PACKAGES = {
    "maxrl_ops": Path(maxrl_ops.__file__).parent,
    "trainer": Path(trainer.__file__).parent,
}
OURS = tuple(PACKAGES)
HEAVY = ("torch", "transformers", "tokenizers", "safetensors", "numpy")
# Which of our modules a package may import; the longest prefix that matches an importer decides.
MAY_IMPORT = {
    "maxrl_ops.wire": ("maxrl_ops.wire",),
    "maxrl_ops.core": ("maxrl_ops.core", "maxrl_ops.wire", "trainer.objectives"),
    "maxrl_ops": ("maxrl_ops", "trainer.objectives"),
    "trainer.verify": ("trainer.verify", "trainer.verdict"),
    "trainer.verify.__main__": (
        "trainer.verify",
        "trainer.reward",
        "trainer.errors",
    ),
    "trainer": ("trainer", "maxrl_ops.wire"),
}
STDLIB_ONLY = ("maxrl_ops.wire", "maxrl_ops.core", "trainer.objectives")


def modules() -> Iterator[tuple[str, ast.Module]]:
    for package, root in PACKAGES.items():
        for path in sorted(root.rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            yield ".".join([package, *parts]).removesuffix(".__init__"), ast.parse(path.read_text())


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_within(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


@pytest.mark.parametrize(
    ("name", "tree"), [pytest.param(name, tree, id=name) for name, tree in modules()]
)
def test_what_a_module_imports(name: str, tree: ast.Module) -> None:
    rules = [prefix for prefix in MAY_IMPORT if is_within(name, (prefix,))]
    allowed = MAY_IMPORT[max(rules, key=len)]
    for target in imported(tree):
        if is_within(target, OURS):
            assert is_within(target, allowed) or target.startswith("maxrl_ops.__"), target
        elif is_within(name, STDLIB_ONLY):
            assert target.split(".")[0] in sys.stdlib_module_names, target
        if is_within(name, ("maxrl_ops",)):
            assert not is_within(target, HEAVY), target


COMMAND_LINE = ("typer", "click", "rich")
# Each of them megabytes, which every daemon without TLS would carry.
WEB = ("ssl", "_hashlib", "http.client", "http.server", "email", "prometheus_client")


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("maxrl_ops.cli.app", HEAVY),
        ("maxrl_ops.cli.status", HEAVY),
        ("maxrl_ops.cli.doctor", HEAVY),
        ("trainer.verify.doctor", (*HEAVY, "tree_sitter")),
        ("maxrl_ops.supervisor", (*HEAVY, *COMMAND_LINE, "prometheus_client", "sqlite3")),
        ("maxrl_ops.daemon", (*HEAVY, *COMMAND_LINE, *WEB)),
        ("trainer.objectives", HEAVY),
        ("trainer.config", HEAVY),
        ("trainer.tasks.worker", HEAVY),
        ("trainer.verify.__main__", HEAVY),
    ],
)
def test_what_a_fresh_process_has_loaded(module: str, unwanted: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert not set(unwanted) & set(done.stdout.split())
