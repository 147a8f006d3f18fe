"""``pip://<package>/<path>``: a file inside an installed Python package, which is not imported for it."""

import importlib.util
import io
import os
from pathlib import Path

from iopath.common.file_io import PathHandler

from detectron2.utils.file_io import PathManager


class InstalledPackageHandler(PathHandler):
    """Finds the files of ``pip://``; knows packages and packages inside packages, such as ``pip://a.b/weights.pth``."""

    PREFIX = "pip://"

    def _get_supported_prefixes(self) -> list[str]:
        return [self.PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs) -> str:
        package, _, rest = path.removeprefix(self.PREFIX).partition("/")
        for folder in _folders(path, package):
            file = Path(os.path.normpath(folder / rest))
            if not file.is_relative_to(folder):
                raise ValueError(f"{path} leaves the package {package}; a path inside it is expected")
            if file.is_file():
                return str(file)
        raise FileNotFoundError(f"{path}: the installed package has no file {rest}")

    def _isfile(self, path: str, **kwargs) -> bool:
        try:
            return Path(self._get_local_path(path)).is_file()
        except (FileNotFoundError, ValueError):
            return False

    def _exists(self, path: str, **kwargs) -> bool:
        return self._isfile(path)

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs) -> io.IOBase:
        if set(mode) - set("rbt"):
            raise ValueError(f"{path}: installed packages are read, not written")
        return open(self._get_local_path(path), mode, buffering)


def _folders(path: str, package: str) -> list[Path]:
    """Where a package lies. ``find_spec`` imports what stands before a dot, so only the first name goes through it.

    Raises:
        FileNotFoundError: it is not installed.
        ValueError: it is no package.
    """
    first, *inner = package.split(".")
    if not all(name.isidentifier() for name in (first, *inner)):
        raise ValueError(f"{path}: {package!r} is no name of a package; pip://<package>/<path inside it> is expected")
    try:
        spec = importlib.util.find_spec(first)
    except ValueError:  # a module that was made by hand, such as __main__
        spec = None
    if spec is None:
        raise FileNotFoundError(f"{path}: the package is not installed; pip install {first.replace('_', '-')}")
    if not spec.submodule_search_locations:
        raise ValueError(f"{path}: {first} is a module of one file, and holds no others")
    return [Path(os.path.normpath(Path(place, *inner))) for place in spec.submodule_search_locations]


PathManager.register_handler(InstalledPackageHandler(), allow_override=True)
