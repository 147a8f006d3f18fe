"""Anchors whose sizes follow from the pyramid levels."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.anchor_generator import ANCHOR_GENERATOR_REGISTRY, DefaultAnchorGenerator
from detectron2.structures import Boxes

from retina_plugin.registry import Condition, reads

CACHE_SIZE = 16
"""Number of image sizes whose anchors are cached; 3 MB each at 800 x 1216."""


def anchor_sizes(strides: Sequence[int], *, scale: float, scales_per_octave: int) -> list[list[float]]:
    """Return the anchor sizes (square root of the area, in pixels of the network input) of every level.

    Level i has ``scale * strides[i] * 2**(j / scales_per_octave)`` for j = 0 .. n-1, so that each level ends where the
    next one starts.

    Example:
        >>> [[round(size, 1) for size in row] for row in anchor_sizes([8, 16], scale=4, scales_per_octave=3)]
        [[32.0, 40.3, 50.8], [64.0, 80.6, 101.6]]

    Source: Lin et al. 2017, section 4, "Anchors".
    """
    return [[scale * stride * 2 ** (j / scales_per_octave) for j in range(scales_per_octave)] for stride in strides]


_NO_SIZES = Condition(lambda cfg: not cfg.MODEL.ANCHOR_GENERATOR.SIZES, "with MODEL.ANCHOR_GENERATOR.SIZES set")
_FROM_LEVELS = {"MODEL.ANCHOR_GENERATOR.SCALE": _NO_SIZES, "MODEL.ANCHOR_GENERATOR.SCALES_PER_OCTAVE": _NO_SIZES}


@ANCHOR_GENERATOR_REGISTRY.register()
@reads(
    "MODEL.ANCHOR_GENERATOR.SIZES",
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS",
    "MODEL.ANCHOR_GENERATOR.OFFSET",
    when=_FROM_LEVELS,
)
class PyramidAnchorGenerator(DefaultAnchorGenerator):
    """Detectron2's anchors, with sizes that follow from the strides of the pyramid.

    ``MODEL.ANCHOR_GENERATOR.SIZES`` may still list the sizes of every level; if it is empty, they are
    ``SCALE * stride`` and the steps up to the next octave (see :func:`anchor_sizes`). Anchors are cached for the last
    ``CACHE_SIZE`` image sizes.
    """

    @configurable
    def __init__(
        self, *, sizes: list[list[float]], aspect_ratios: list[list[float]], strides: list[int], offset: float
    ) -> None:
        """Check the sizes and ratios; for the arguments see Detectron2's ``DefaultAnchorGenerator``.

        Raises:
            ValueError: if the rows of ``sizes`` or ``aspect_ratios`` do not match the number of levels, or levels have
                different numbers of anchors (the head is shared over levels).
        """
        levels = len(strides)
        for key, rows in (("SIZES", sizes), ("ASPECT_RATIOS", aspect_ratios)):
            rows_are_lists = len(rows) > 0 and all(isinstance(row, Sequence) for row in rows)
            if not rows_are_lists or len(rows) not in (1, levels):
                raise ValueError(
                    f"MODEL.ANCHOR_GENERATOR.{key} must have one row for all {levels} levels, or one per level, with "
                    f"strides {list(strides)}; got {rows!r}. "
                    "Leave SIZES empty to derive the sizes from MODEL.RETINANET.LEVELS"
                )
        if len(sizes) == 1 and levels > 1:
            raise ValueError(
                f"MODEL.ANCHOR_GENERATOR.SIZES has one row, {list(sizes[0])}, which would put all of these sizes on "
                f"each of {levels} levels; set one row per level, or leave it empty to derive the sizes from "
                "MODEL.RETINANET.LEVELS"
            )
        # A, the anchors per location, as (number of sizes, number of ratios); they are ordered size by size.
        self.anchor_grid = (len(sizes[0]), len(aspect_ratios[0]))
        super().__init__(sizes=sizes, aspect_ratios=aspect_ratios, strides=strides, offset=offset)
        self._cache: OrderedDict[tuple[Any, ...], list[Boxes]] = OrderedDict()
        if len(set(self.num_anchors)) != 1:
            raise ValueError(
                f"the head is shared over levels, so all need the same number of anchors; got {self.num_anchors}"
            )

    def forward(self, features: list[Tensor]) -> list[Boxes]:
        """Map L features (N, C, Hi, Wi) to L ``Boxes`` (Hi Wi A, 4) in XYXY pixels; shared, do not modify them."""
        cell = next(iter(self.cell_anchors))
        key = (cell.device, cell.dtype, *(tuple(feature.shape[-2:]) for feature in features))
        return self.kept(key, lambda: super(PyramidAnchorGenerator, self).forward(features))

    def kept(self, key: tuple[Any, ...], make: Callable[[], list[Boxes]]) -> list[Boxes]:
        """Return the anchors cached under ``key``, computed with ``make`` the first time."""
        if key not in self._cache:
            self._cache[key] = make()
            if len(self._cache) > CACHE_SIZE:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        return self._cache[key]

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict[str, Any]:
        """Return the constructor's arguments from MODEL.ANCHOR_GENERATOR and the shapes of the L levels."""
        strides = [shape.stride for shape in input_shape]
        node = cfg.MODEL.ANCHOR_GENERATOR
        sizes = node.SIZES
        if not sizes:
            sizes = anchor_sizes(
                strides,
                scale=cfg.MODEL.ANCHOR_GENERATOR.SCALE,
                scales_per_octave=cfg.MODEL.ANCHOR_GENERATOR.SCALES_PER_OCTAVE,
            )
        return {"sizes": sizes, "aspect_ratios": node.ASPECT_RATIOS, "strides": strides, "offset": node.OFFSET}


@ANCHOR_GENERATOR_REGISTRY.register()
@reads("MODEL.ANCHOR_GENERATOR.SIZES", "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", when=_FROM_LEVELS)
class TorchvisionAnchors(PyramidAnchorGenerator):
    """The anchors of torchvision's RetinaNet, in Detectron2's order: size by size, not ratio by ratio.

    They differ from ``PyramidAnchorGenerator`` in three ways: sizes that follow from the levels are truncated to whole
    pixels, corners around the centre are rounded to whole pixels, and the spacing of a level's anchors is the side of
    the (padded) image over that of the map, truncated to whole pixels, which is less than the stride where a side is
    not a multiple of it. The first anchor is centred on the corner of the image.

    Source: torchvision's ``AnchorGenerator`` and ``retinanet_resnet50_fpn``; tests compare detections with its own.
    """

    @configurable
    def __init__(self, *, sizes: list[list[float]], aspect_ratios: list[list[float]], strides: list[int]) -> None:
        """Initialise without an offset, see :class:`PyramidAnchorGenerator`."""
        super().__init__(sizes=sizes, aspect_ratios=aspect_ratios, strides=strides, offset=0.0)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict[str, Any]:
        """Return the constructor's arguments from MODEL.ANCHOR_GENERATOR and the shapes of the L levels."""
        plain = PyramidAnchorGenerator.from_config(cfg, input_shape)
        sizes = plain["sizes"]
        if not cfg.MODEL.ANCHOR_GENERATOR.SIZES:
            sizes = [[int(size) for size in row] for row in sizes]
        return {"sizes": sizes, "aspect_ratios": plain["aspect_ratios"], "strides": plain["strides"]}

    def generate_cell_anchors(self, sizes: Sequence[float], aspect_ratios: Sequence[float]) -> Tensor:
        """Return the corners (A, 4) around the centre, in whole pixels; called by Detectron2's constructor."""
        # In float32, as in torchvision: halves are rounded to even, so the last bit matters.
        root = torch.tensor(aspect_ratios, dtype=torch.float32).sqrt()  # (ratios,)
        side = torch.tensor(sizes, dtype=torch.float32)  # (sizes,)
        width, height = (torch.outer(side, x).flatten() for x in (1 / root, root))  # (A,) each
        return (torch.stack([-width, -height, width, height], dim=1) / 2).round()

    def forward(self, features: list[Tensor]) -> list[Boxes]:
        """Map L features (N, C, Hi, Wi) to L ``Boxes`` (Hi Wi A, 4), see :class:`PyramidAnchorGenerator`.

        The padded size of the image is that of the finest map times its stride.
        """
        sizes = [(feature.shape[-2], feature.shape[-1]) for feature in features]
        height, width = (side * self.strides[0] for side in sizes[0])
        steps = [(height // rows, width // columns) for rows, columns in sizes]
        cells = list(self.cell_anchors)
        key = (cells[0].device, cells[0].dtype, *sizes)
        return self.kept(key, lambda: [Boxes(shifted(*level)) for level in zip(cells, sizes, steps, strict=True)])


def shifted(cell: Tensor, size: tuple[int, int], step: tuple[int, int]) -> Tensor:
    """Return the anchors (Hi Wi A, 4) of a map of ``size`` (Hi, Wi): cell anchors (A, 4), ``step`` (down, right) apart.

    Example:
        >>> shifted(torch.tensor([[-1.0, -1.0, 1.0, 1.0]]), (1, 2), (4, 3)).tolist()
        [[-1.0, -1.0, 1.0, 1.0], [2.0, -1.0, 4.0, 1.0]]
    """
    y, x = (torch.arange(n, device=cell.device) * by for n, by in zip(size, step, strict=True))
    y, x = torch.meshgrid(y, x, indexing="ij")
    shift = torch.stack([x, y, x, y], dim=-1).to(cell.dtype)  # (Hi, Wi, 4)
    return (shift.view(-1, 1, 4) + cell).view(-1, 4)
