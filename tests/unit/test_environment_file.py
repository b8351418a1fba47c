"""A run's secrets: what a file of them may say, and that no message tells one."""

from pathlib import Path

import pytest

from maxrl_ops.environment_file import EnvironmentFileError, read


def written(tmp_path: Path, text: str | bytes, mode: int = 0o600) -> Path:
    path = tmp_path / "secrets.env"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


def test_what_systemd_reads_too(tmp_path: Path) -> None:
    text = """
# of the hub
HF_TOKEN=hf_x0Jq7
; of nobody
 _B2 = is no name
"""
    with pytest.raises(EnvironmentFileError, match="line 5 is not NAME=VALUE"):
        read(written(tmp_path, text))
    text = 'A=1\n\n B=\' a b \'\nC="say \\"x\\""\nD=\nE=a=b # not a comment \nA=2\r\n'
    assert read(written(tmp_path, text, 0o640)) == {
        "A": "2", "B": " a b ", "C": 'say "x"', "D": "", "E": "a=b # not a comment",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "mode", "told"),
    [
        ("T=hush", 0o644, "chmod 600"),
        ("hush", 0o600, "line 1 is not NAME=VALUE"),
        ("T='hush", 0o600, "line 1: its quote is not closed"),
        ("\nMAXRL_SEED=3", 0o600, "line 2: MAXRL_SEED is a setting"),
        ("USE_MAXRL=hush", 0o600, "is a setting"),
        ("T=a\0hush", 0o600, "line 1 is not"),
        (b"T=\xff hush", 0o600, "not UTF-8"),
        ("T=" + 70_000 * "hush", 0o600, "longer than"),
    ],
)
def test_what_is_refused_is_named_without_its_value(
    tmp_path: Path, text: str | bytes, mode: int, told: str
) -> None:
    path = written(tmp_path, text, mode)
    with pytest.raises(EnvironmentFileError, match=told) as error:
        read(path)
    assert str(path) in str(error.value)
    assert "hush" not in str(error.value)
    assert "\n" not in str(error.value)
