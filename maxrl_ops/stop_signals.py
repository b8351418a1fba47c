"""Signal handlers only enqueue; the loop that waits on the queue acts."""

import signal
import socket


class StopSignals:
    """SIGTERM and SIGINT as a queue that select(2) can wait for.

    Attributes:
        reload_asked: SIGHUP has come: read the configuration again, where there is any.
        suspend_asked: SIGUSR2 has come: end what runs, not the run. systemd's units send it.
    """

    def __init__(self, *, term_suspends: bool = False) -> None:
        """Queue signals from now on; with `term_suspends` SIGTERM says what SIGUSR2 does.

        At a shutdown every process gets SIGTERM, and a run that goes on after it has not ended.
        """
        self._suspending = {signal.SIGUSR2, *([signal.SIGTERM] if term_suspends else [])}
        self._stopping = {signal.SIGTERM, signal.SIGINT} - self._suspending
        self.reload_asked = self.suspend_asked = False
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        # A handler, though an idle one: an ignored signal would stay ignored in the trainer.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
            signal.signal(number, lambda _number, _frame: None)

    def fileno(self) -> int:
        """A descriptor that becomes readable when a signal has come."""
        return self._reader.fileno()

    def take(self) -> int:
        """How many requests to stop have come since the last call."""
        try:
            numbers = self._reader.recv(4096)
        except BlockingIOError:
            return 0
        self.suspend_asked |= not self._suspending.isdisjoint(numbers)
        self.reload_asked |= signal.SIGHUP in numbers
        return sum(number in self._stopping for number in numbers)

    def take_reload(self) -> bool:
        """Whether a reload was asked for since the last call; `take` sees the signal."""
        asked, self.reload_asked = self.reload_asked, False
        return asked
