"""Annotation formats, one file each, behind one interface."""

from . import coco, voc, yolo, csv, labelme, via, cvat  # noqa: F401, I001  (registered on import, in the order in which a folder is looked at)
from .base import FORMAT_REGISTRY, AnnotationFormat, Found, Reading, Refused

__all__ = ["FORMAT_REGISTRY", "AnnotationFormat", "Found", "Reading", "Refused"]
