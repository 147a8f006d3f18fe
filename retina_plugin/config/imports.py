"""Import of modules that register your own variants: IMPORTS in a config, ``--import``, and installed plugins."""

import importlib
import importlib.util
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

logger = logging.getLogger(__name__)

ENTRY_POINTS = "retina_plugin.plugins"
"""Group of the entry points with which an installed package names its module."""

AFTERWARDS: list[Callable[[], None]] = []
"""Functions that update other parts after an import, such as cards in a format that was unknown before.

``retina_plugin/__init__.py`` adds them.
"""

MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


class ModuleError(ImportError):
    """A module that a config or the command line names does not exist or fails to import."""


def import_modules(
    names: Iterable[str], *, asked_by: str = "IMPORTS", places: Sequence[str | os.PathLike] = ()
) -> None:
    """Import modules that register variants, each once.

    Args:
        names: Dotted names, such as "my_package.losses"; searched in Python's path, then in the working directory, then
            in ``places``.
        asked_by: Where the names come from, for messages.
        places: Additional folders to search.

    Raises:
        ModuleError: If a name is not a module name, there is no such module, or it fails to import.
    """
    anything_new = False
    for name in names:
        _check_name(name, asked_by)
        anything_new |= _import_module(name, asked_by, places)
    if anything_new:
        for update in AFTERWARDS:
            update()


def _check_name(name: object, asked_by: str) -> None:
    """Refuse what is not a module name.

    Raises:
        ModuleError: With the module name that was probably meant.
    """
    is_file = isinstance(name, str) and name.endswith(".py")
    if isinstance(name, str) and MODULE.fullmatch(name) and not is_file:
        return
    meant = re.sub(r"\W+", ".", str(name)[:-3]).strip(".") if is_file else "my_package.losses"
    raise ModuleError(
        f"{asked_by}: {name!r} is not a module name; give a name as in Python's import statement, such as {meant}"
    )


def _import_module(name: str, asked_by: str, places: Sequence[str | os.PathLike]) -> bool:
    """Import one module and return whether it had not been imported before.

    Raises:
        ModuleError: If there is no such module, or it fails to import.
    """
    if name in sys.modules:
        return False
    _make_findable(name, places)
    try:
        module = importlib.import_module(name)
    except Exception as error:  # a third-party module may raise anything
        if _is_missing(name, error):
            raise ModuleError(
                f"{asked_by}: there is no module {name!r} in Python's search path or in {os.getcwd()}; "
                "install its package, or run the command in the folder that contains the module"
            ) from error
        raise ModuleError(
            f"{asked_by}: {name} fails to import: {type(error).__name__}: {error}{_line_of(error)}"
        ) from error
    logger.info("imported %s (%s)", name, getattr(module, "__file__", None) or "a package")
    return True


def _is_missing(name: str, error: Exception) -> bool:
    """Return whether an import failed because the module itself, or a package that contains it, does not exist."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return False
    return f"{name}.".startswith(f"{error.name}.")


def _make_findable(name: str, places: Sequence[str | os.PathLike]) -> None:
    """Append the folder that contains a module to Python's search path, unless the module is found already.

    The working directory is searched first, then ``places``.
    """
    top = name.partition(".")[0]
    if top in sys.modules or importlib.util.find_spec(top) is not None:
        return
    for folder in (os.getcwd(), *(os.fspath(place) for place in places)):
        if (Path(folder) / f"{top}.py").is_file() or (Path(folder) / top).is_dir():
            sys.path.append(folder)
            importlib.invalidate_caches()
            return


def _line_of(error: Exception) -> str:
    """Return the file and line that raised an error, for a message."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return f" ({traceback.tb_frame.f_code.co_filename}, line {traceback.tb_lineno})" if traceback is not None else ""


def place_of(name: str) -> str | None:
    """Return the folder in Python's search path that contains an imported module.

    Returns:
        None if the module was not imported or has no file.
    """
    top: ModuleType | None = sys.modules.get(name.partition(".")[0])
    places = [*getattr(top, "__path__", [])] or [file for file in [getattr(top, "__file__", None)] if file]
    return str(Path(places[0]).resolve().parent) if places else None


def import_installed() -> None:
    """Import the modules that installed packages name as entry points; warn of one that fails to import."""
    for point in entry_points(group=ENTRY_POINTS):
        _load(point)


def _load(point: EntryPoint) -> None:
    """Import the module of an entry point; a failure is a warning."""
    try:
        point.load()
    except Exception as error:  # noqa: BLE001 - a third-party package must not end a run that may not need it
        warnings.warn(
            f"the plugin {point.name} ({point.value}) fails to import: {type(error).__name__}: {error}", stacklevel=3
        )
