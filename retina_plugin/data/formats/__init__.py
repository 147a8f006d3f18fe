"""Annotation formats, one file each, behind one interface."""

# Importing a format registers it; a folder is tested against the formats in this order.
from . import coco, voc, yolo, csv, labelme, via, cvat  # noqa: F401, I001
from .base import FORMAT_REGISTRY, AnnotationFormat, Found, Reading, Refused

__all__ = ["FORMAT_REGISTRY", "AnnotationFormat", "Found", "Reading", "Refused"]
