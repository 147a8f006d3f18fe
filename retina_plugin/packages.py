"""``pip://<package>/<path>``: a file inside an installed Python package, found without importing the package."""

import importlib.util
import os
from pathlib import Path
from typing import IO, Any

from iopath.common.file_io import PathHandler

from detectron2.utils.file_io import PathManager


class InstalledPackageHandler(PathHandler):
    """Handler of ``pip://`` paths, also of files in subpackages, such as ``pip://a.b/weights.pth``."""

    PREFIX = "pip://"

    def _get_supported_prefixes(self) -> list[str]:
        return [self.PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        package, _, rest = path.removeprefix(self.PREFIX).partition("/")
        for folder in _folders(path, package):
            file = Path(os.path.normpath(folder / rest))
            if not file.is_relative_to(folder):
                raise ValueError(f"{path} leads out of the package {package}; a path inside it is expected")
            if file.is_file():
                return str(file)
        raise FileNotFoundError(f"{path}: the installed package has no file {rest}")

    def _isfile(self, path: str, **kwargs: Any) -> bool:
        try:
            return Path(self._get_local_path(path)).is_file()
        except (FileNotFoundError, ValueError):
            return False

    def _exists(self, path: str, **kwargs: Any) -> bool:
        return self._isfile(path)

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> IO[str] | IO[bytes]:
        if set(mode) - set("rbt"):
            raise ValueError(f"{path}: files of installed packages can be read, not written")
        return open(self._get_local_path(path), mode, buffering)


def _folders(path: str, package: str) -> list[Path]:
    """Return the folders of a package.

    ``find_spec`` imports everything before the last dot of a name, so only the first part of the name is passed to it.

    Args:
        path: The whole path, for messages.
        package: Dotted name of the package.

    Raises:
        FileNotFoundError: If the package is not installed.
        ValueError: If the name is not that of a package.
    """
    first, *inner = package.split(".")
    if not all(name.isidentifier() for name in (first, *inner)):
        raise ValueError(f"{path}: {package!r} is not a package name; pip://<package>/<path inside it> is expected")
    try:
        spec = importlib.util.find_spec(first)
    except ValueError:  # a module without a spec, such as __main__
        spec = None
    if spec is None:
        raise FileNotFoundError(f"{path}: the package is not installed; pip install {first.replace('_', '-')}")
    if not spec.submodule_search_locations:
        raise ValueError(f"{path}: {first} is a single-file module and contains no other files")
    return [Path(os.path.normpath(Path(place, *inner))) for place in spec.submodule_search_locations]


PathManager.register_handler(InstalledPackageHandler(), allow_override=True)
