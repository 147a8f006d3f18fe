"""Annotation formats, one file each, behind one interface."""

from . import coco, csv, labelme, voc, yolo  # noqa: F401  (registered on import)
from .base import FORMAT_REGISTRY, ReadResult

__all__ = ["FORMAT_REGISTRY", "ReadResult"]
