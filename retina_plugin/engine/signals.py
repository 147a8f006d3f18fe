"""Handle Ctrl-C and SIGTERM: the first asks to stop, the second ends at once."""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

from retina_plugin.engine.ending import Stopped


class StopOnSignal:
    """Context in which the first SIGINT or SIGTERM calls ``ask`` with its number, and the next raises ``Stopped``.

    Does nothing outside the main thread, where Python allows no signal handlers.
    """

    def __init__(self, ask: Callable[[int], None]) -> None:
        self.ask, self.number, self._pid = ask, 0, os.getpid()
        self._before: dict = {}

    def __enter__(self) -> "StopOnSignal":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """Ask to stop, or raise ``Stopped`` if a signal has arrived before."""
        if os.getpid() != self._pid:
            # A loader process has inherited the handler. Ctrl-C is for the training, which still needs its images.
            if number == signal.SIGTERM:
                os._exit(128 + number)
            return
        if self.number:
            raise Stopped(number)
        self.number = number
        self.ask(number)
