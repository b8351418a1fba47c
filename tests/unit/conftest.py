"""Unit tests bring no daemon up: those that need one say so, and end it."""

import pytest


@pytest.fixture(autouse=True)
def _no_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAXRL_OPS_NO_DAEMON", "1")
