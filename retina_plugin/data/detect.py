"""The former name of :mod:`retina_plugin.data.discover`, for scripts that use it."""

from retina_plugin.data.discover import discover as detect_dataset

__all__ = ["detect_dataset"]
