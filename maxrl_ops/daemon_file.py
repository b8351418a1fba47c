"""daemon.json: which daemon looks after a home, and where its metrics are."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Self, cast

from maxrl_ops import processes
from maxrl_ops.settings import Home
from maxrl_ops.wire.documents import ProcessIdentity
from maxrl_ops.wire.rundir import DocumentError, read_json, replace_json

_PROBLEMS = ("policy_problem", "unread")


@dataclass(frozen=True, slots=True)
class DaemonFile:
    """The file's content.

    Attributes:
        process: The daemon.
        metrics: The URL of its metrics.
        started: RFC 3339 in UTC.
        version: The package's.
        policy_problem: Why policy.toml as it is now is not in force, in one line; None where it is.
        unread: Which run cannot be followed, and why, in one line; None where all can.
    """

    process: ProcessIdentity
    metrics: str
    started: str
    version: str
    policy_problem: str | None = None
    unread: str | None = None

    def save(self, home: Home) -> None:
        """Write daemon.json."""
        replace_json(home.daemon_file, asdict(self))

    @classmethod
    def load(cls, home: Home) -> Self:
        """Read daemon.json.

        Raises:
            FileNotFoundError: There is none.
            DocumentError: It is damaged.
        """
        raw = read_json(home.daemon_file)
        try:
            process = cast("Mapping[str, object]", raw["process"])
            return cls(
                ProcessIdentity(
                    int(cast("int", process["pid"])),
                    int(cast("int", process["start_time"])),
                    str(process["boot_id"]),
                ),
                str(raw["metrics"]),
                str(raw["started"]),
                str(raw["version"]),
                *(None if raw.get(key) is None else str(raw[key]) for key in _PROBLEMS),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DocumentError(f"{home.daemon_file}: {error!r} is missing or wrong") from None


def running(home: Home) -> DaemonFile | None:
    """The daemon that lives, None when there is none."""
    try:
        found = DaemonFile.load(home)
    except (OSError, DocumentError):
        return None
    return found if processes.is_alive(found.process) else None
