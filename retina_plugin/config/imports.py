"""Modules that register variants of one's own: IMPORTS in a config, ``--import`` on the command line, installed plugins."""

import importlib
import importlib.util
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import entry_points
from pathlib import Path

logger = logging.getLogger(__name__)

ENTRY_POINTS = "retina_plugin.plugins"
"""Group of the entry points by which an installed package names its module."""

AFTERWARDS: list[Callable[[], None]] = []
"""Functions of other parts that look again at what modules may have changed, such as cards in a format that was unknown; ``retina_plugin/__init__.py`` adds them."""

MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


class ModuleError(ImportError):
    """A module that is to be imported is not there, or does not import."""


def import_modules(
    names: Iterable[str], *, asked_by: str = "IMPORTS", places: Sequence[str | os.PathLike] = ()
) -> None:
    """Import modules that register variants, each once.

    Args:
        names: dotted, such as "my_package.losses"; looked for where Python looks, then in the working directory and ``places``.
        asked_by: who names them, for messages.
        places: further folders that modules may lie in.

    Raises:
        ModuleError: a name is none, there is no such module, or it does not import; an ImportError.
    """
    anything = False
    for name in names:
        if not isinstance(name, str) or not MODULE.fullmatch(name) or name.endswith(".py"):
            meant = (
                re.sub(r"\W+", ".", name[:-3]).strip(".")
                if isinstance(name, str) and name.endswith(".py")
                else "my_package.losses"
            )
            raise ModuleError(f"{asked_by}: {name!r} is no module; give a name as in Python's import, such as {meant}")
        if name in sys.modules:
            continue
        _make_findable(name, places)
        try:
            module = importlib.import_module(name)
        except Exception as error:  # whatever somebody's module may do
            if (
                isinstance(error, ModuleNotFoundError)
                and error.name
                and (name == error.name or name.startswith(f"{error.name}."))
            ):
                raise ModuleError(
                    f"{asked_by}: there is no module {name!r} where Python looks, nor in {os.getcwd()}; install its package, or run where it lies"
                ) from error
            raise ModuleError(
                f"{asked_by}: {name} does not import: {type(error).__name__}: {error}{_line_of(error)}"
            ) from error
        logger.info("imported %s (%s)", name, getattr(module, "__file__", None) or "a package")
        anything = True
    if anything:
        for look_again in AFTERWARDS:
            look_again()


def _make_findable(name: str, places: Sequence[str | os.PathLike]) -> None:
    """Put the working directory, or one of ``places``, at the end of where Python looks if the module lies there and nowhere before."""
    top = name.partition(".")[0]
    if top in sys.modules or importlib.util.find_spec(top) is not None:
        return
    for folder in (os.getcwd(), *map(os.fspath, places)):
        if (Path(folder) / f"{top}.py").is_file() or (Path(folder) / top).is_dir():
            sys.path.append(folder)
            importlib.invalidate_caches()
            return


def _line_of(error: Exception) -> str:
    """File and line that an error comes from, for a message."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return f" ({traceback.tb_frame.f_code.co_filename}, line {traceback.tb_lineno})" if traceback is not None else ""


def place_of(name: str) -> str | None:
    """The folder that Python has to look in for a module that was imported; None if it was not, or has no file."""
    top = sys.modules.get(name.partition(".")[0])
    places = [*getattr(top, "__path__", [])] or [file for file in [getattr(top, "__file__", None)] if file]
    return str(Path(places[0]).resolve().parent) if places else None


def import_installed() -> None:
    """Import what installed packages name under the entry points of the plugin; one that does not import costs a warning."""
    for point in entry_points(group=ENTRY_POINTS):
        try:
            point.load()
        except Exception as error:  # the package of somebody else must not end a training that may not need it
            warnings.warn(
                f"the plugin {point.name} ({point.value}) does not import: {type(error).__name__}: {error}",
                stacklevel=2,
            )
