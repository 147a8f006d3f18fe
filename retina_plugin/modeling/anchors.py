"""Anchors whose sizes follow from the pyramid levels."""

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.anchor_generator import ANCHOR_GENERATOR_REGISTRY, DefaultAnchorGenerator
from detectron2.structures import Boxes

CACHE_SIZE = 16
"""Image sizes whose anchors are kept: 3 MB each at 800 x 1216."""


def anchor_sizes(strides: Sequence[int], *, scale: float, scales_per_octave: int) -> list[list[float]]:
    """Anchor sizes (square root of the area, in pixels of the network input) of every level.

    Level i has ``scale * strides[i] * 2**(j / scales_per_octave)`` for j = 0 .. n-1, so that one
    level ends where the next begins.

    Example:
        >>> [[round(size, 1) for size in row] for row in anchor_sizes([8, 16], scale=4, scales_per_octave=3)]
        [[32.0, 40.3, 50.8], [64.0, 80.6, 101.6]]

    Source: Lin et al. 2017, section 4, "Anchors".
    """
    return [[scale * stride * 2 ** (j / scales_per_octave) for j in range(scales_per_octave)] for stride in strides]


@ANCHOR_GENERATOR_REGISTRY.register()
class PyramidAnchorGenerator(DefaultAnchorGenerator):
    """Detectron2's anchors, with sizes that follow from the strides of the pyramid.

    ``MODEL.ANCHOR_GENERATOR.SIZES`` may still list the sizes of every level; empty means that they
    are ``SCALE * stride`` and its steps up to the next octave (see :func:`anchor_sizes`).
    Anchors are kept for the last ``CACHE_SIZE`` image sizes.
    """

    @configurable
    def __init__(self, *, sizes: list[list[float]], aspect_ratios: list[list[float]], strides: list[int], offset: float) -> None:
        """See :class:`detectron2.modeling.anchor_generator.DefaultAnchorGenerator`.

        Raises:
            ValueError: the rows of ``sizes`` or ``aspect_ratios`` do not fit the number of levels,
                or levels have different numbers of anchors (the head is shared over levels).
        """
        levels = len(strides)
        for key, rows in (("SIZES", sizes), ("ASPECT_RATIOS", aspect_ratios)):
            rows_are_lists = len(rows) > 0 and all(isinstance(row, Sequence) for row in rows)
            if not rows_are_lists or len(rows) not in (1, levels):
                raise ValueError(
                    f"MODEL.ANCHOR_GENERATOR.{key} must have one row for all, or one for each, of the {levels} levels with "
                    f"strides {list(strides)}; got {rows!r}. Leave SIZES empty to let the sizes follow from MODEL.RETINANET.LEVELS"
                )
        if len(sizes) == 1 and levels > 1:
            raise ValueError(
                f"MODEL.ANCHOR_GENERATOR.SIZES has one row, {list(sizes[0])}, which would put all of these sizes on each of "
                f"{levels} levels; give a row for every level, or leave it empty to let the sizes follow from MODEL.RETINANET.LEVELS"
            )
        super().__init__(sizes=sizes, aspect_ratios=aspect_ratios, strides=strides, offset=offset)
        self._cache: OrderedDict[tuple, list[Boxes]] = OrderedDict()
        if len(set(self.num_anchors)) != 1:
            raise ValueError(f"the head is shared over levels, so each needs as many anchors as the others; got {self.num_anchors}")

    def forward(self, features: list[Tensor]) -> list[Boxes]:
        """L maps (N, C, Hi, Wi) to L ``Boxes`` (Hi Wi A, 4) in XYXY pixels, which are shared: do not change them."""
        cell = next(iter(self.cell_anchors))
        key = (cell.device, cell.dtype, *(tuple(feature.shape[-2:]) for feature in features))
        if key not in self._cache:
            self._cache[key] = super().forward(features)
            if len(self._cache) > CACHE_SIZE:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        return self._cache[key]

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict:
        strides = [shape.stride for shape in input_shape]
        node = cfg.MODEL.ANCHOR_GENERATOR
        sizes = node.SIZES
        if not sizes:
            sizes = anchor_sizes(strides, scale=cfg.MODEL.ANCHOR_GENERATOR.SCALE,
                                 scales_per_octave=cfg.MODEL.ANCHOR_GENERATOR.SCALES_PER_OCTAVE)
        return {"sizes": sizes, "aspect_ratios": node.ASPECT_RATIOS, "strides": strides, "offset": node.OFFSET}
