"""Packages whose public names are imported when they are first used.

``retina --help`` has to be quick, and an exported model runs where torch and detectron2 are not installed.
"""

import importlib
from collections.abc import Callable, Mapping


def lazy_names(package: str, modules: Mapping[str, str]) -> Callable[[str], object]:
    """Return the ``__getattr__`` of a package.

    Args:
        package: its ``__name__``.
        modules: public name -> module of the package that defines it.
    """

    def get(name: str) -> object:
        """Import a public name, see PEP 562."""
        if name in modules:
            return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return get
