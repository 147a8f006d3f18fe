"""Anchors whose sizes follow from the pyramid levels."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.anchor_generator import ANCHOR_GENERATOR_REGISTRY, DefaultAnchorGenerator
from detectron2.structures import Boxes

from retina_plugin.registry import Condition, reads

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

    ``MODEL.ANCHOR_GENERATOR.SIZES`` may still list the sizes of every level; empty means that they
    are ``SCALE * stride`` and its steps up to the next octave (see :func:`anchor_sizes`).
    Anchors are kept for the last ``CACHE_SIZE`` image sizes.
    """

    @configurable
    def __init__(
        self, *, sizes: list[list[float]], aspect_ratios: list[list[float]], strides: list[int], offset: float
    ) -> None:
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
        # A, the anchors of a location, as (number of sizes, number of ratios); they come size by size.
        self.anchor_grid = (len(sizes[0]), len(aspect_ratios[0]))
        super().__init__(sizes=sizes, aspect_ratios=aspect_ratios, strides=strides, offset=offset)
        self._cache: OrderedDict[tuple, list[Boxes]] = OrderedDict()
        if len(set(self.num_anchors)) != 1:
            raise ValueError(
                f"the head is shared over levels, so each needs as many anchors as the others; got {self.num_anchors}"
            )

    def forward(self, features: list[Tensor]) -> list[Boxes]:
        """L maps (N, C, Hi, Wi) to L ``Boxes`` (Hi Wi A, 4) in XYXY pixels, which are shared: do not change them."""
        cell = next(iter(self.cell_anchors))
        key = (cell.device, cell.dtype, *(tuple(feature.shape[-2:]) for feature in features))
        return self.kept(key, lambda: super(PyramidAnchorGenerator, self).forward(features))

    def kept(self, key: tuple, make: Callable[[], list[Boxes]]) -> list[Boxes]:
        """The anchors kept under ``key``; if there are none, those that ``make`` gives."""
        if key not in self._cache:
            self._cache[key] = make()
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
            sizes = anchor_sizes(
                strides,
                scale=cfg.MODEL.ANCHOR_GENERATOR.SCALE,
                scales_per_octave=cfg.MODEL.ANCHOR_GENERATOR.SCALES_PER_OCTAVE,
            )
        return {"sizes": sizes, "aspect_ratios": node.ASPECT_RATIOS, "strides": strides, "offset": node.OFFSET}


@ANCHOR_GENERATOR_REGISTRY.register()
@reads("MODEL.ANCHOR_GENERATOR.SIZES", "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", when=_FROM_LEVELS)
class TorchvisionAnchors(PyramidAnchorGenerator):
    """The anchors that torchvision's RetinaNet was trained with, in Detectron2's order: size by size, not ratio by ratio.

    They differ from the plain ones in three ways: sizes that follow from the levels are cut to whole pixels, corners
    around the centre are rounded to whole pixels, and anchors of a level lie as many whole pixels apart as its map fits
    into the (padded) image, which is less than the stride where a side is no multiple of it. The first is centred on the
    corner of the image.

    Source: torchvision's ``AnchorGenerator`` and ``retinanet_resnet50_fpn``, whose detections they are compared with in tests.
    """

    @configurable
    def __init__(self, *, sizes: list[list[float]], aspect_ratios: list[list[float]], strides: list[int]) -> None:
        """See :class:`PyramidAnchorGenerator`."""
        super().__init__(sizes=sizes, aspect_ratios=aspect_ratios, strides=strides, offset=0.0)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict:
        plain = PyramidAnchorGenerator.from_config(cfg, input_shape)
        sizes = (
            plain["sizes"]
            if cfg.MODEL.ANCHOR_GENERATOR.SIZES
            else [[int(size) for size in row] for row in plain["sizes"]]
        )
        return {"sizes": sizes, "aspect_ratios": plain["aspect_ratios"], "strides": plain["strides"]}

    def generate_cell_anchors(self, sizes: Sequence[float], aspect_ratios: Sequence[float]) -> Tensor:
        """Corners (A, 4) around the centre, in whole pixels. Called by Detectron2's constructor."""
        root = torch.tensor(
            aspect_ratios, dtype=torch.float32
        ).sqrt()  # (ratios,); in float32, as halves are rounded to even
        width, height = (
            torch.outer(torch.tensor(sizes, dtype=torch.float32), x).flatten() for x in (1 / root, root)
        )  # (A,) each
        return (torch.stack([-width, -height, width, height], dim=1) / 2).round()

    def forward(self, features: list[Tensor]) -> list[Boxes]:
        """See :class:`PyramidAnchorGenerator`. The image's padded size is that of the finest map times its stride."""
        sizes = [tuple(feature.shape[-2:]) for feature in features]
        image = [side * self.strides[0] for side in sizes[0]]
        steps = [tuple(whole // side for whole, side in zip(image, size, strict=True)) for size in sizes]
        cells = list(self.cell_anchors)
        key = (cells[0].device, cells[0].dtype, *sizes)
        return self.kept(
            key,
            lambda: [Boxes(shifted(cell, size, step)) for cell, size, step in zip(cells, sizes, steps, strict=True)],
        )


def shifted(cell: Tensor, size: tuple[int, int], step: tuple[int, int]) -> Tensor:
    """Anchors (Hi Wi A, 4) of a map of ``size`` (Hi, Wi): cell anchors (A, 4) moved by multiples of ``step`` (down, right).

    Example:
        >>> shifted(torch.tensor([[-1.0, -1.0, 1.0, 1.0]]), (1, 2), (4, 3)).tolist()
        [[-1.0, -1.0, 1.0, 1.0], [2.0, -1.0, 4.0, 1.0]]
    """
    y, x = (torch.arange(n, device=cell.device) * by for n, by in zip(size, step, strict=True))
    y, x = torch.meshgrid(y, x, indexing="ij")
    shift = torch.stack([x, y, x, y], dim=-1).to(cell.dtype)  # (Hi, Wi, 4)
    return (shift.view(-1, 1, 4) + cell).view(-1, 4)
