"""The anchors of a config and the boxes that they have to cover, at network resolution."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from detectron2.config import CfgNode

from retina_plugin.modeling.anchors import anchor_sizes
from retina_plugin.modeling.neck.levels import PyramidLevels

CHUNK = 4096
"""Boxes compared at once; with 15 shapes on 6 levels a few MB."""


class GroundTruth(NamedTuple):
    """Boxes of a dataset, in pixels of the network input.

    Attributes:
        boxes: (M, 4) XYXY.
        classes: (M,) labels 0..K-1.
        image: (M,) index of the image.
        sizes: (N, 2) (height, width) of each image.
    """

    boxes: np.ndarray
    classes: np.ndarray
    image: np.ndarray
    sizes: np.ndarray


def ground_truth(records: list[dict], *, shortest: int, longest: int) -> GroundTruth:
    """Resize the boxes of a dataset to the network input, without crowds.

    Args:
        records: Detectron2's dataset dicts with boxes XYXY_ABS.
        shortest: shorter side that an image is resized to, INPUT.MIN_SIZE_TEST; 0 leaves images as they are.
        longest: limit of its longer side, INPUT.MAX_SIZE_TEST.
    """
    boxes, classes, image, sizes = [], [], [], []
    for i, record in enumerate(records):
        h, w = record["height"], record["width"]
        factor = min(shortest / min(h, w), longest / max(h, w)) if shortest else 1.0
        sizes.append((h * factor, w * factor))
        for x in record["annotations"]:
            if not x.get("iscrowd"):
                boxes.append([v * factor for v in x["bbox"]])
                classes.append(x["category_id"])
                image.append(i)
    return GroundTruth(
        np.array(boxes, dtype=float).reshape(-1, 4),
        np.array(classes, dtype=int),
        np.array(image, dtype=int),
        np.array(sizes, dtype=float).reshape(-1, 2),
    )


@dataclass(frozen=True)
class AnchorLayout:
    """The config keys that determine the anchors.

    Attributes:
        levels: MODEL.RETINANET.LEVELS.
        scale, scales_per_octave: MODEL.ANCHOR_GENERATOR.SCALE, SCALES_PER_OCTAVE.
        ratios: MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS, height / width.
        offset: MODEL.ANCHOR_GENERATOR.OFFSET, of the first anchor's centre, in strides.
        input: factor on the size of the images.
    """

    levels: tuple[int, ...]
    scale: float
    scales_per_octave: int
    ratios: tuple[float, ...]
    offset: float = 0.0
    input: float = 1.0

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "AnchorLayout":
        """Build from a config.

        Raises:
            ValueError: it lists explicit sizes (MODEL.ANCHOR_GENERATOR.SIZES).
        """
        node = cfg.MODEL.ANCHOR_GENERATOR
        if node.SIZES:
            raise ValueError(
                "MODEL.ANCHOR_GENERATOR.SIZES lists sizes; the analysis needs anchors defined by SCALE and "
                "SCALES_PER_OCTAVE"
            )
        levels = PyramidLevels.from_config(cfg).levels
        return cls(levels, node.SCALE, node.SCALES_PER_OCTAVE, tuple(node.ASPECT_RATIOS[0]), node.OFFSET)

    def shapes(self) -> np.ndarray:
        """Return (S, 3) stride, width, height in pixels of every anchor of one location, over all levels."""
        strides = [2**level for level in self.levels]
        sizes = anchor_sizes(strides, scale=self.scale, scales_per_octave=self.scales_per_octave)
        return np.array(
            [
                (stride, size / ratio**0.5, size * ratio**0.5)
                for stride, row in zip(strides, sizes, strict=True)
                for size in row
                for ratio in self.ratios
            ]
        )

    @property
    def locations(self) -> float:
        """Anchors per pixel of the network input at its original size, a measure of their cost."""
        return self.input**2 * len(self.ratios) * self.scales_per_octave * sum(4.0**-level for level in self.levels)

    def best_overlaps(self, truth: GroundTruth) -> np.ndarray:
        """Return the largest IoU (M,) of every box with any anchor.

        Of each shape only the anchor nearest to the box's centre is compared, since that one overlaps the box most.
        """
        shapes, best = self.shapes(), np.zeros(len(truth.boxes))
        for start in range(0, len(best), CHUNK):
            part = slice(start, start + CHUNK)
            boxes, sizes = truth.boxes[part] * self.input, truth.sizes[truth.image[part]] * self.input
            width, height = (boxes[:, 2:] - boxes[:, :2]).T[..., None]  # (m, 1)
            x, y = ((boxes[:, 2:] + boxes[:, :2]) / 2).T[..., None]
            stride, w, h = shapes.T  # (S,)
            shared_width = _shared(x, width, w, _nearest(x, stride, sizes[:, 1:], self.offset))
            shared_height = _shared(y, height, h, _nearest(y, stride, sizes[:, :1], self.offset))
            shared = shared_width * shared_height
            best[part] = (shared / (width * height + w * h - shared)).max(axis=1)
        return best


def _nearest(centre: np.ndarray, stride: np.ndarray, side: np.ndarray, offset: float) -> np.ndarray:
    """Return the centre (m, S) of the nearest anchor along one axis, on a grid that covers the image."""
    last = np.ceil(side / stride) - 1
    return (np.clip(np.round(centre / stride - offset), 0, last) + offset) * stride


def _shared(centre: np.ndarray, side: np.ndarray, anchor: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return the length (m, S) that a box and an anchor share along one axis."""
    low = np.maximum(centre - side / 2, at - anchor / 2)
    high = np.minimum(centre + side / 2, at + anchor / 2)
    return np.clip(high - low, 0, None)
