"""Boxes of COCO annotations: from a bbox, polygons or a run-length mask."""

from retina_plugin.data.boxes import extent
from retina_plugin.data.problems import shown
from retina_plugin.data.values import as_number, as_size

MOST_MASK_PIXELS = 1 << 28
"""Largest mask that is decoded."""


def box_of_annotation(annotation: dict) -> list[float] | str:
    """Return the XYXY box of an annotation, from its bbox or else its segmentation, or what is wrong with it.

    Example:
        >>> box_of_annotation({"bbox": [10, "20", 30, 5.5]})
        [10.0, 20.0, 40.0, 25.5]
        >>> box_of_annotation({"segmentation": [[4, 4, 24, 4, 24, 9]]})
        [4.0, 4.0, 24.0, 9.0]
        >>> box_of_annotation({"bbox": [1, 2, 3]})
        'bbox must be four numbers [x, y, width, height], got [1, 2, 3]'
    """
    box = annotation.get("bbox")
    if type(box) is list and len(box) == 4:
        x, y, w, h = box
        if type(x) is type(y) is type(w) is type(h) is float:  # the common case needs no conversion
            return [x, y, x + w, y + h]
        x, y, w, h = map(as_number, box)
        if x is not None and y is not None and w is not None and h is not None:
            return [x, y, x + w, y + h]
    if not box and annotation.get("segmentation"):
        segmentation = annotation["segmentation"]
        if isinstance(segmentation, dict):
            return _box_of_mask(segmentation)
        around = extent(segmentation)
        return around if around is not None else f"segmentation must be polygons, got {shown(segmentation)}"
    if isinstance(box, dict) and {"x", "y", "width", "height"} <= set(box):
        return box_of_annotation({"bbox": [box[key] for key in ("x", "y", "width", "height")]})
    return f"bbox must be four numbers [x, y, width, height], got {shown(box)}"


def _box_of_mask(mask: dict) -> list[float] | str:
    """Return the XYXY box of a COCO run-length mask, compressed or not, or what is wrong with it."""
    from pycocotools import mask as masks

    try:
        h, w = (as_size(side) for side in mask["size"])
        counts = mask["counts"]
        if h is None or w is None or h * w > MOST_MASK_PIXELS:
            raise ValueError("size")
        if isinstance(counts, list):
            if sum(int(count) for count in counts) != h * w or min(counts) < 0:
                raise ValueError("counts")
            coded = masks.frPyObjects({"size": [h, w], "counts": [int(count) for count in counts]}, h, w)
        elif isinstance(counts, str) and _fits(counts, h * w):
            coded = {"size": [h, w], "counts": counts.encode("ascii")}
        else:
            raise ValueError("counts")
        x, y, box_width, box_height = (float(v) for v in masks.toBbox(coded))
    except (KeyError, TypeError, ValueError, OverflowError):
        return f"segmentation must be a run-length mask with size and counts, got {shown(mask)}"
    return [x, y, x + box_width, y + box_height]


def _fits(text: str, pixels: int) -> bool:
    """Return whether compressed runs cover exactly the pixels of the mask, which the decoder in C does not check."""
    counts: list[int] = []
    position = 0
    while position < len(text):
        value, shift, more = 0, 0, True
        while more:  # 5 bits per character, the lowest first; bit 5: more follow; bit 4 of the last: negative
            if position >= len(text) or shift > 60:
                return False
            code = ord(text[position]) - 48
            if not 0 <= code < 64:
                return False
            value |= (code & 0x1F) << shift
            more = bool(code & 0x20)
            position, shift = position + 1, shift + 5
            if not more and code & 0x10:
                value |= -1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))  # stored as the difference from the last but one
    return all(count >= 0 for count in counts) and sum(counts) == pixels
