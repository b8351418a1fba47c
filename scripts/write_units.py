"""Write systemd/ anew: the units of an installation in /opt/maxrl-ops, to read and to package."""

from pathlib import Path

from maxrl_ops.systemd_files import DEFAULT, files

for name, text in files(DEFAULT).items():
    path = Path("systemd", name.removeprefix("systemd/system/"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
