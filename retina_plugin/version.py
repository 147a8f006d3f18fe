"""The version of the package, importable without its parts."""

__version__ = "0.2.0"
