"""Former name of :mod:`retina_plugin.data.discover`, kept for scripts that use it."""

from retina_plugin.data.discover import discover as detect_dataset

__all__ = ["detect_dataset"]
