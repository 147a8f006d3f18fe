"""How a command ends: exit codes, and errors as one line."""

import contextlib
import errno
import signal
import sys
from collections.abc import Callable, Iterator

from retina_plugin.engine.console import say
from retina_plugin.names import one_line

DONE, UNEXPECTED, ERROR, DIVERGED, STOPPED = 0, 1, 2, 3, 75
"""Exit codes.

DONE: finished.
UNEXPECTED: a bug in the program.
ERROR: something that the user can fix.
DIVERGED: losses, gradients or weights are not finite.
STOPPED: stopped by a signal after a checkpoint was written, so ``--resume`` continues (75 is EX_TEMPFAIL of sysexits.h:
try again).
"""

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class StartError(ValueError):
    """A run cannot start; its cause is the error of the library that noticed."""


class Stopped(BaseException):
    """A signal ended the training.

    Attributes:
        signal: number of the signal.
        command: command that continues the run; None if nothing was trained yet.
    """

    def __init__(self, number: int, command: str | None = None) -> None:
        super().__init__(number, command)
        self.signal, self.command = number, command


class ProcessEnded(Exception):  # noqa: N818 - a public name, caught by scripts
    """One of several processes ended with a non-zero exit code, after reporting why itself."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """Turn an error of any kind into one that the user can fix: until training starts, all comes from the user's input.

    Raises:
        StartError: instead of a library's error that is not a ValueError, TypeError, ImportError or OSError.
    """
    try:
        yield
    except (ValueError, TypeError, ImportError, OSError):
        raise
    except Exception as error:
        kind = "" if isinstance(error, KeyError | AssertionError) else f"{type(error).__name__}: "
        raise StartError(f"the run cannot start: {kind}{message(error)}") from error


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and the errors that it came from, the latest first."""
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def message(error: BaseException) -> str:
    """Return the text of an error, without the quotes that ``str`` puts around that of a KeyError."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return text.strip() or type(error).__name__


def verdict(error: BaseException) -> tuple[int, str]:
    """Return the exit code of an error and the text that reports it."""
    full = next((e for e in chain(error) if isinstance(e, OSError) and e.errno in DISK_FULL), None)
    if full is not None:
        return ERROR, (
            f"{full.strerror}: {full.filename or 'OUTPUT_DIR'} cannot be written. Free some space, then continue from "
            "the last checkpoint with --resume"
        )
    if isinstance(error, FloatingPointError):
        return DIVERGED, message(error)
    torch = sys.modules.get("torch")  # an exported model runs without it
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return ERROR, (
            f"out of memory: {message(error).splitlines()[0]} Reduce SOLVER.IMS_PER_BATCH or INPUT.MAX_SIZE_TRAIN, or "
            "set SOLVER.ACCUMULATE above 1"
        )
    if isinstance(error, OSError) and error.strerror:
        return ERROR, f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    loop = sys.modules.get("retina_plugin.engine.loop")
    kinds = (ValueError, TypeError, OSError, ImportError, *([loop.DataLoadingError] if loop else []))
    if isinstance(error, kinds):
        return ERROR, message(error)
    return UNEXPECTED, f"{type(error).__name__}: {message(error)}"


def exit_code(call: Callable[[], object]) -> int:
    """Call a command and return the exit code of the process.

    An error is reported on stderr in one line, the last of the output. The stack trace of an unexpected error is in the
    log file of the run; if there is no log file, it is printed.

    Args:
        call: returns an exit code, or anything that is not a number, which counts as 0.
    """
    try:
        result = call()
        return result if isinstance(result, int) else DONE
    except ProcessEnded as error:
        return error.code
    except (Stopped, KeyboardInterrupt) as error:
        number = error.signal if isinstance(error, Stopped) else signal.SIGINT
        command = error.command if isinstance(error, Stopped) else None
        how = f"this continues the run:\n  {command}" if command else "nothing was written that could be resumed"
        _report(f"stopped by {signal.Signals(number).name}; {how}")
        return STOPPED if command else 128 + number
    except Exception as error:  # noqa: BLE001 - the outermost level: every error becomes an exit code and a line
        code, text = verdict(error)
        file = getattr(error, "log_file", None)
        if code == UNEXPECTED and file is None:
            sys.excepthook(type(error), error, error.__traceback__)
        elif code == UNEXPECTED:
            text += f" (this is a bug in the program; its stack trace is in {file})"
        _report(f"error: {text}")
        return code


def _report(text: str) -> None:
    """Write text to stderr, after what is still buffered for stdout; control characters in its lines are escaped."""
    sys.stdout.flush()
    say("\n".join(map(one_line, text.split("\n"))), stream=sys.stderr, flush=True)
