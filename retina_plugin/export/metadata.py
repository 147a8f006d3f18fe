"""What an exported file says about itself: everything that is needed to use it."""

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

KEY = "retina_plugin"
"""Name of the entry in the metadata of a file; its value is JSON."""

LATER = ("input_size", "nms_inside", "soft_nms", "soft_nms_sigma")
"""Attributes that files of version 0.2.0 lack."""


@dataclass
class Metadata:
    """Description of an exported detector.

    Attributes:
        class_names: K names.
        thresholds: minimum score of each class, with the best F1 in the last evaluation; None if unknown.
        image_format: order of the channels, "BGR" or "RGB".
        reader: INPUT.READER.
        value_range: INPUT.VALUE_RANGE; empty for 8-bit images.
        max_pixels: INPUT.MAX_IMAGE_PIXELS.
        shorter: shorter side that images are resized to, pixels; 0: not resized.
        longest: longest side.
        divisor: sides of the input are multiples of it.
        padding: (C,) value that pads images, MODEL.PIXEL_MEAN.
        cell_anchors: L x (A, 4), anchors around the origin, XYXY, pixels.
        strides: L, of the levels.
        anchor_offset: of the first anchor, in strides.
        steps_from_map: anchors are spaced by side of the input // side of the map (torchvision), not by the stride.
        box_weights: (4,) weights of the deltas dx, dy, dw, dh.
        scale_clamp: largest dw and dh.
        score_thresh, topk, nms_thresh, max_detections, class_agnostic: as in
            :func:`retina_plugin.modeling.postprocess.detect`.
        precision: "fp32", "fp16", "bf16" or "int8".
        input_size: the only [height, width] of the network's input that the file takes; None: any.
        nms_inside: whether the file takes one image and returns its detections.
        image_size: median (height, width) of the training images; None if unknown.
        checkpoint: name of the file it comes from.
        version: of the plugin.
        soft_nms, soft_nms_sigma: as ``soft`` and ``soft_sigma`` there.
        proof: what was compared when the file was written, see :mod:`retina_plugin.export.proof`.
    """

    class_names: list[str]
    thresholds: list[float] | None
    image_format: str
    reader: str
    value_range: list[float]
    max_pixels: int
    shorter: int
    longest: int
    divisor: int
    padding: list[float]
    cell_anchors: list[list[list[float]]]
    strides: list[int]
    anchor_offset: float
    steps_from_map: bool
    box_weights: list[float]
    scale_clamp: float
    score_thresh: float
    topk: int
    nms_thresh: float
    max_detections: int
    class_agnostic: bool
    precision: str
    image_size: list[int] | None
    checkpoint: str
    version: str
    input_size: list[int] | None = None
    nms_inside: bool = False
    soft_nms: str = ""
    soft_nms_sigma: float = 0.5
    proof: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the description as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str, source: str) -> "Metadata":
        """Read a description.

        Args:
            text: JSON.
            source: file, for messages.

        Raises:
            ValueError: it is not one.
        """
        try:
            values = json.loads(text)
            return cls(**{x.name: values[x.name] for x in fields(cls) if x.name in values or x.name not in LATER})
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{source} was not written by `retina export`, or by another version: {error}") from error
