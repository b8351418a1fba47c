"""Where PyTorch keeps compiled kernels: it dies at its import where it cannot make the place."""

from pathlib import Path

from trainer import before_torch

KERNELS = "TORCHINDUCTOR_CACHE_DIR"


def test_kernels_are_kept_at_home_and_in_the_run_where_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    run = tmp_path / "run"
    for caches, there in (
        ("cache", tmp_path / "cache" / "maxrl-ops"),
        ("file", run / ".cache"),
        ("file/below", run / ".cache"),
    ):
        env = {"XDG_CACHE_HOME": str(tmp_path / caches)}
        before_torch.set_up(env, run)
        assert env[KERNELS] == str(there / "torchinductor")
        assert (there / "torchinductor").is_dir()
    # Nowhere: then it is PyTorch's own place.
    env = {"XDG_CACHE_HOME": str(tmp_path / "file")}
    before_torch.set_up(env, tmp_path / "file")
    assert KERNELS not in env


def test_what_is_set_stays(tmp_path: Path) -> None:
    env = {KERNELS: "/mine", "OMP_WAIT_POLICY": "active", "XDG_CACHE_HOME": str(tmp_path)}
    before = dict(env)
    before_torch.set_up(env, tmp_path / "run")
    assert env == before
    assert not list(tmp_path.iterdir())
