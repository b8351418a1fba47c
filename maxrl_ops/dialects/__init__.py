"""Log formats: one module each, all giving the same events."""

from collections.abc import Callable, Mapping
from typing import Protocol

from maxrl_ops.dialects import guide
from maxrl_ops.wire.record import Event


class Reader(Protocol):
    """A push parser: however its bytes are cut, it returns the same events."""

    @property
    def lines(self) -> int:
        """Complete lines that are done with: those of `pending` are not among them."""
        ...

    @property
    def pending(self) -> int:
        """Bytes at the end of what was fed that are in no event yet."""
        ...

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes."""
        ...

    def close(self) -> list[Event]:
        """The events that the end of the log completes."""
        ...


DIALECTS: Mapping[str, Callable[[], Reader]] = {guide.NAME: guide.Parser}
