"""What the documents say can be done: every command, option and file that they name is there."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import maxrl_ops
from maxrl_ops.cli.app import app

ROOT = Path(maxrl_ops.__file__).parent.parent
DOCUMENTS = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "maxrl_ops" / "runbooks").glob("*.md"),
    ]
)
# Options of other programs, or of somebody's own.
FOREIGN = {"--standalone", "--resume", "--quick", "--nproc-per-node"}


def options(command: Any, path: str = "") -> Iterator[tuple[str, set[str]]]:
    """Each command's path, such as `export model`, with its options."""
    yield path, {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
    for name, child in getattr(command, "commands", {}).items():
        yield from options(child, f"{path} {name}".strip())


OPTIONS = dict(options(get_command(app)))


def command_lines(text: str) -> Iterator[tuple[str, str]]:
    """In code: which command, and what follows it, without quotes and a command of one's own."""
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.M | re.S)
    for code in (*re.findall(r"`([^`\n]+)`", text), *"\n".join(blocks).splitlines()):
        for line in re.findall(r"maxrl-ops ([a-z].*)", code.partition("#")[0]):
            bare = re.sub(r'"[^"]*"', "", line).split(" -- ")[0]
            words = bare.split()
            path = " ".join(words[:2]) if words[0] == "export" else words[0]
            yield path, bare


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_names_is_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for path, line in command_lines(text):
        assert path in OPTIONS, line
        unknown = {*re.findall(r"(?<!\S)--[a-z][a-z-]+", line)} - OPTIONS[path] - {"--help"}
        assert not unknown, f"{path}: {unknown}"
    named = {*re.findall(r"`(--[a-z][a-z-]+)", text)} - FOREIGN
    assert named <= set().union(*OPTIONS.values())
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text)
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_runbooks_go_with_alerts_and_link_to_nothing_that_stays_here() -> None:
    for document in (ROOT / "maxrl_ops" / "runbooks").glob("*.md"):
        links = re.findall(r"\]\(([^)]+)\)", document.read_text(encoding="utf-8"))
        assert [link for link in links if not link.startswith("https://")] == []
