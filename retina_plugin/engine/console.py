"""Output of a run: what people need goes to the console, everything goes to the log file."""

import logging
import sys
import time
from pathlib import Path
from typing import TextIO

from retina_plugin.names import one_line

OURS = "retina_plugin"
EVALUATOR = "detectron2.evaluation.evaluator"
"""Logger that reports the progress of an evaluation every five seconds."""

QUIET = ("retina_plugin.evaluation",)
"""Our loggers whose tables go to the log file only; the console shows one line per evaluation."""

LIBRARIES = ("detectron2", "fvcore")
"""Third-party loggers that are written to the log file, from DEBUG up."""

EVALUATION_SECONDS = 10.0
"""Shortest time between two console lines about the progress of an evaluation."""


def say(text: str, *, stream: TextIO | None = None, flush: bool = False) -> None:
    """Write text and a newline to the terminal, without a time and not through the loggers.

    For what a command shows before a run has its log or after that is closed.

    Args:
        text: one or more lines.
        stream: None: stdout.
        flush: write what is buffered at once.
    """
    stream = stream or sys.stdout
    stream.write(f"{text}\n")
    if flush:
        stream.flush()


def duration(seconds: float) -> str:
    """Return a duration for people, with at most two units.

    Args:
        seconds: at least 0; fractions are dropped.

    Example:
        >>> duration(42), duration(700), duration(10000), duration(200000)
        ('42 s', '11 min 40 s', '2 h 46 min', '2 d 7 h')
    """
    seconds = int(seconds)
    for size, unit, smaller, below in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            return f"{seconds // size} {unit} {seconds % size // smaller} {below}"
    return f"{seconds} s"


class ForPeople(logging.Formatter):
    """Formats records as "12:30:59 text", with the level from WARNING up; stack traces are left to the log file."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of one record."""
        level = f"{record.levelname} " if record.levelno >= logging.WARNING else ""
        return f"{time.strftime('%H:%M:%S', time.localtime(record.created))} {level}{text(record)}"


def text(record: logging.LogRecord) -> str:
    """Return the message of a record, with control characters escaped: names from untrusted data may be in it."""
    return "\n".join(map(one_line, record.getMessage().split("\n")))


class Shown(logging.Filter):
    """Lets through what is worth a line on the console."""

    def __init__(self) -> None:
        super().__init__()
        self._last_progress = time.monotonic()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to show a record: ours from INFO up, evaluation progress now and then, no other library's."""
        if record.name == EVALUATOR and record.msg.startswith("Inference done"):
            due = time.monotonic() - self._last_progress > EVALUATION_SECONDS
            if due:
                self._last_progress = time.monotonic()
            return due
        if record.name.split(".")[0] != OURS:
            return False
        return record.levelno >= (logging.WARNING if record.name.startswith(QUIET) else logging.INFO)


class Problems(logging.Handler):
    """Collects warnings and errors, each once, to repeat them at the end of a run.

    Args:
        console: owner of this handler.
    """

    def __init__(self, console: "Console | None" = None) -> None:
        super().__init__(logging.WARNING)
        self.console = console
        self.messages: dict[str, int] = {}
        self.addFilter(lambda record: record.name.split(".")[0] == OURS)

    def emit(self, record: logging.LogRecord) -> None:
        """Count a message."""
        message = text(record)
        self.messages[message] = self.messages.get(message, 0) + 1

    def again(self) -> str:
        """Return all messages, one per line with its count; "" if there are none."""
        if not self.messages:
            return ""
        lines = [
            f"  {message.splitlines()[0]}" + (f" ({count} times)" if count > 1 else "")
            for message, count in self.messages.items()
        ]
        return "\n".join([f"to be looked at ({len(lines)}):", *lines])


class Console:
    """The log handlers of a run; ``close`` removes them.

    Args:
        rank: of the process; only rank 0 writes to the terminal, each rank has a log file.
        instead: close any console that is still open.

    Attributes:
        problems: warnings and errors until now.
        file: the log file; None until :meth:`write_to` is called.
    """

    def __init__(self, rank: int = 0, *, instead: bool = False) -> None:
        if instead:
            collectors = [handler for handler in logging.getLogger().handlers if isinstance(handler, Problems)]
            for console in {collector.console for collector in collectors}:
                if console is not None:
                    console.close()
        self.rank, self.problems = rank, Problems(self)
        self.file: Path | None = None
        self._handlers: list[logging.Handler] = [self.problems]
        if rank == 0:
            shown = logging.StreamHandler(sys.stdout)
            shown.setFormatter(ForPeople())
            shown.addFilter(Shown())
            self._handlers.append(shown)
        self._levels = {name: logging.getLogger(name).level for name in (OURS, *LIBRARIES)}
        for handler in self._handlers:
            logging.getLogger().addHandler(handler)
        for name in (OURS, *LIBRARIES):
            logging.getLogger(name).setLevel(logging.DEBUG)
        # torch's own handler writes to the terminal, even what is of no use there, such as that there is no GPU.
        torch_logger = logging.getLogger("torch")
        self._torch = (torch_logger.handlers[:], torch_logger.propagate)
        torch_logger.handlers, torch_logger.propagate = [], True
        logging.captureWarnings(True)

    def write_to(self, folder: Path) -> None:
        """Write everything to ``log.txt`` in a folder; processes of rank 1, 2, ... write to ``log.txt.rank1``, ..."""
        self.file = folder / ("log.txt" + (f".rank{self.rank}" if self.rank else ""))
        file = logging.FileHandler(self.file, encoding="utf-8")
        file.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s: %(message)s"))
        self._handlers.append(file)
        logging.getLogger().addHandler(file)

    def __enter__(self) -> "Console":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Restore logging as it was before."""
        for handler in self._handlers:
            logging.getLogger().removeHandler(handler)
            handler.close()
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)
        logging.getLogger("torch").handlers, logging.getLogger("torch").propagate = self._torch
        logging.captureWarnings(False)
