"""What a run says: to people on the console, and everything into its log file."""

import logging
import sys
import time
from pathlib import Path

from retina_plugin.names import one_line

OURS = "retina_plugin"
EVALUATOR = "detectron2.evaluation.evaluator"
"""Logs how far an evaluation is, every five seconds."""

QUIET = ("retina_plugin.evaluation",)
"""Loggers of ours whose tables are for the log file: the console has one line about an evaluation."""

LIBRARIES = ("detectron2", "fvcore")
"""Loggers that are written to the log file, from DEBUG on."""

EVALUATION_SECONDS = 10.0


class ForPeople(logging.Formatter):
    """ "12:30:59 text", with the level from WARNING on, and without stack traces, which the log file has."""

    def format(self, record: logging.LogRecord) -> str:
        """One record."""
        level = f"{record.levelname} " if record.levelno >= logging.WARNING else ""
        return f"{time.strftime('%H:%M:%S', time.localtime(record.created))} {level}{text(record)}"


def text(record: logging.LogRecord) -> str:
    """What a record says; names from strangers' files in it are text to the terminal."""
    return "\n".join(map(one_line, record.getMessage().split("\n")))


class Shown(logging.Filter):
    """What is worth a line on the console."""

    def __init__(self) -> None:
        super().__init__()
        self._evaluation_said = time.monotonic()

    def filter(self, record: logging.LogRecord) -> bool:
        """Of ours, INFO and above; of evaluations how far they are, now and then; of libraries nothing."""
        if record.name == EVALUATOR and record.msg.startswith("Inference done"):
            due = time.monotonic() - self._evaluation_said > EVALUATION_SECONDS
            if due:
                self._evaluation_said = time.monotonic()
            return due
        if record.name.split(".")[0] != OURS:
            return False
        return record.levelno >= (logging.WARNING if record.name.startswith(QUIET) else logging.INFO)


class Problems(logging.Handler):
    """Remembers what was wrong, each once, so that it can be said again at the end.

    Args:
        console: that it belongs to.
    """

    def __init__(self, console: "Console | None" = None) -> None:
        super().__init__(logging.WARNING)
        self.console = console
        self.messages: dict[str, int] = {}
        self.addFilter(lambda record: record.name.split(".")[0] == OURS)

    def emit(self, record: logging.LogRecord) -> None:
        """Count a message."""
        said = text(record)
        self.messages[said] = self.messages.get(said, 0) + 1

    def again(self) -> str:
        """All of them, one a line; "" if nothing was wrong."""
        if not self.messages:
            return ""
        lines = [
            f"  {said.splitlines()[0]}" + (f" ({count} times)" if count > 1 else "")
            for said, count in self.messages.items()
        ]
        return "\n".join([f"to be looked at ({len(lines)}):", *lines])


class Console:
    """The handlers of a run; ``close`` takes them away again.

    Args:
        rank: of the process; only the first one speaks, each has a log file.
        instead: close one that is still open.
    """

    def __init__(self, rank: int = 0, *, instead: bool = False) -> None:
        if instead:
            for console in {
                handler.console for handler in logging.getLogger().handlers if isinstance(handler, Problems)
            }:
                console.close()
        self.rank, self.problems, self.file = rank, Problems(self), None
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
        # torch writes to the terminal by itself, also what is of no use there, such as that there is no GPU.
        torch_logger = logging.getLogger("torch")
        self._torch = (torch_logger.handlers[:], torch_logger.propagate)
        torch_logger.handlers, torch_logger.propagate = [], True
        logging.captureWarnings(True)

    def write_to(self, folder: Path) -> None:
        """Write everything to ``log.txt`` of a folder, of other processes than the first to ``log.txt.rank1`` and so on."""
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
        """Leave logging as it was."""
        for handler in self._handlers:
            logging.getLogger().removeHandler(handler)
            handler.close()
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)
        logging.getLogger("torch").handlers, logging.getLogger("torch").propagate = self._torch
        logging.captureWarnings(False)
