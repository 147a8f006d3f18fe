"""How a command ends: exit codes, and errors as one line."""

import errno
import signal
import sys
from collections.abc import Callable, Iterator

import torch

from retina_plugin.names import one_line

DONE, UNEXPECTED, ERROR, DIVERGED, STOPPED = 0, 1, 2, 3, 75
"""Exit codes: finished; a mistake in the program; something that whoever started it can mend; losses, gradients or weights that are
not finite; stopped by a signal after a checkpoint was written, so that ``--resume`` goes on (75 is EX_TEMPFAIL of sysexits.h: try again)."""

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class StartError(ValueError):
    """A run cannot begin; its cause is the error of the library that noticed."""


class Stopped(BaseException):
    """A signal ended the training.

    Attributes:
        signal: its number.
        command: that goes on; None if nothing was trained yet.
    """

    def __init__(self, number: int, command: str | None = None) -> None:
        super().__init__(number, command)
        self.signal, self.command = number, command


class ProcessEnded(Exception):
    """One of several processes ended with an exit code that says why, and has said it."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that it came from."""
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def message(error: BaseException) -> str:
    """What an error says, without the quotes that ``str`` puts around that of a KeyError."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return text.strip() or type(error).__name__


def verdict(error: BaseException) -> tuple[int, str]:
    """Exit code of an error, and what is said about it."""
    from retina_plugin.engine.loop import DataLoadingError

    full = next((e for e in chain(error) if isinstance(e, OSError) and e.errno in DISK_FULL), None)
    if full is not None:
        return (
            ERROR,
            f"{full.strerror}: {full.filename or 'OUTPUT_DIR'} cannot be written. Make room, then --resume goes on from the last checkpoint",
        )
    if isinstance(error, FloatingPointError):
        return DIVERGED, message(error)
    if isinstance(error, torch.OutOfMemoryError):
        return (
            ERROR,
            f"out of memory: {message(error).splitlines()[0]} Smaller SOLVER.IMS_PER_BATCH, INPUT.MAX_SIZE_TRAIN, or SOLVER.ACCUMULATE above 1",
        )
    if isinstance(error, OSError) and error.strerror:
        return ERROR, f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, ValueError | TypeError | OSError | ImportError | DataLoadingError):
        return ERROR, message(error)
    return UNEXPECTED, f"{type(error).__name__}: {message(error)}"


def exit_code(call: Callable[[], int | None]) -> int:
    """Call, and say on stderr in one line what went wrong, as the last one; the stack trace goes to the log file of the run, if there is one."""
    try:
        return call() or DONE
    except ProcessEnded as error:
        return error.code
    except (Stopped, KeyboardInterrupt) as error:
        number = error.signal if isinstance(error, Stopped) else signal.SIGINT
        command = error.command if isinstance(error, Stopped) else None
        name = signal.Signals(number).name
        _say(
            f"stopped by {name}; this goes on:\n  {command}"
            if command
            else f"stopped by {name}; nothing was written that could go on"
        )
        return STOPPED if command else 128 + number
    except Exception as error:
        code, text = verdict(error)
        file = getattr(error, "log_file", None)
        if code == UNEXPECTED and file is None:
            sys.excepthook(type(error), error, error.__traceback__)
        elif code == UNEXPECTED:
            text += f" (this is a mistake in the program; its stack trace is in {file})"
        _say(f"error: {text}")
        return code


def _say(text: str) -> None:
    sys.stdout.flush()
    text = "\n".join(map(one_line, text.split("\n")))
    print(text, file=sys.stderr, flush=True)
