"""Whether a reboot has cut a run off. Pure: which boot of which machine it is, the caller tells."""

from dataclasses import dataclass

from maxrl_ops.core.run_state import ENDED
from maxrl_ops.wire.documents import SupervisorState


@dataclass(frozen=True, slots=True)
class Boot:
    """One boot of one machine.

    Attributes:
        host: The machine's name.
        boot_id: /proc/sys/kernel/random/boot_id.
    """

    host: str
    boot_id: str


def is_cut_off(state: SupervisorState, here: Boot) -> bool:
    """Whether the run went on in an earlier boot of this machine, and nobody has ended it since.

    Of another machine's run, on storage that both see, nobody here can tell: it may well go on.
    """
    if state.state in ENDED or state.supervisor is None or state.host != here.host:
        return False
    return state.supervisor.boot_id != here.boot_id
