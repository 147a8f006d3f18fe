"""Which ground truth gets an anchor, and which anchors would suit it better."""

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from detectron2.config import CfgNode

from retina_plugin.modeling.anchors import anchor_sizes
from retina_plugin.modeling.neck.levels import PyramidLevels

LOOKED_FOR_SCALES = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
LOOKED_FOR_OCTAVES = (2, 3, 4)
LOOKED_FOR_INPUTS = (1.0, 1.5, 2.0)
WORTH = 0.005
"""Share of the boxes by which more anchors, another level or a larger input have to cover more to be advised."""

CHEAPER = 0.9
"""Anchors, compared to those advised so far, with which a layout that covers as much is advised instead."""

LOOSER = 0.04
"""Mean best IoU that fewer anchors may cost: boxes far from their anchor are learnt worse."""

CHUNK = 4096
"""Boxes compared at once: with 15 shapes on 6 levels a few MB."""


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
    """Boxes as the network sees them.

    Args:
        records: Detectron2's dataset dicts with boxes XYXY_ABS; crowds are left out.
        shortest, longest: sides that an image is resized to, as INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST; shortest 0: not resized.
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
    return GroundTruth(np.array(boxes, dtype=float).reshape(-1, 4), np.array(classes, dtype=int), np.array(image, dtype=int), np.array(sizes, dtype=float).reshape(-1, 2))


@dataclass(frozen=True)
class AnchorLayout:
    """The keys that anchors follow from.

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
        """Of a config.

        Raises:
            ValueError: it lists sizes of its own (MODEL.ANCHOR_GENERATOR.SIZES).
        """
        node = cfg.MODEL.ANCHOR_GENERATOR
        if node.SIZES:
            raise ValueError("MODEL.ANCHOR_GENERATOR.SIZES lists sizes; the anchors that follow from SCALE and SCALES_PER_OCTAVE can be looked at")
        levels = PyramidLevels.from_config(cfg).levels
        return cls(levels, cfg.MODEL.ANCHOR_GENERATOR.SCALE, cfg.MODEL.ANCHOR_GENERATOR.SCALES_PER_OCTAVE, tuple(node.ASPECT_RATIOS[0]), node.OFFSET)

    def shapes(self) -> np.ndarray:
        """(S, 3) stride, width, height of every anchor of one location of every level."""
        strides = [2**level for level in self.levels]
        sizes = anchor_sizes(strides, scale=self.scale, scales_per_octave=self.scales_per_octave)
        return np.array([(stride, size / ratio**0.5, size * ratio**0.5) for stride, row in zip(strides, sizes, strict=True) for size in row for ratio in self.ratios])

    @property
    def locations(self) -> float:
        """Anchors for each pixel of the network input at its original size: what they cost."""
        return self.input**2 * len(self.ratios) * self.scales_per_octave * sum(4.0**-level for level in self.levels)

    def best_overlaps(self, truth: GroundTruth) -> np.ndarray:
        """The largest IoU of every box with any anchor, (M,): of each shape the anchor nearest to the box's centre overlaps it most."""
        shapes, best = self.shapes(), np.zeros(len(truth.boxes))
        for begin in range(0, len(best), CHUNK):
            part = slice(begin, begin + CHUNK)
            boxes, sizes = truth.boxes[part] * self.input, truth.sizes[truth.image[part]] * self.input
            width, height = (boxes[:, 2:] - boxes[:, :2]).T[..., None]  # (m, 1)
            x, y = ((boxes[:, 2:] + boxes[:, :2]) / 2).T[..., None]
            stride, w, h = shapes.T  # (S,)
            shared = _shared(x, width, w, _nearest(x, stride, sizes[:, 1:], self.offset)) * _shared(y, height, h, _nearest(y, stride, sizes[:, :1], self.offset))
            best[part] = (shared / (width * height + w * h - shared)).max(axis=1)
        return best


def _nearest(centre: np.ndarray, stride: np.ndarray, side: np.ndarray, offset: float) -> np.ndarray:
    """Centre of the nearest anchor along one axis, (m, S), on a grid that covers the image."""
    last = np.ceil(side / stride) - 1
    return (np.clip(np.round(centre / stride - offset), 0, last) + offset) * stride


def _shared(centre: np.ndarray, side: np.ndarray, anchor: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Length that a box and an anchor share along one axis, (m, S)."""
    return np.clip(np.minimum(centre + side / 2, at + anchor / 2) - np.maximum(centre - side / 2, at - anchor / 2), 0, None)


def fitted_ratios(truth: GroundTruth, count: int) -> tuple[float, ...]:
    """``count`` aspect ratios (height / width) that lie amid the boxes': medians of as many equal parts of them, in order of the ratio.

    Example:
        >>> boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 20], [0, 0, 10, 21], [0, 0, 10, 9]])
        >>> fitted_ratios(GroundTruth(boxes, np.zeros(4), np.zeros(4, int), np.zeros((1, 2))), 2)
        (0.95, 2.05)
    """
    sides = truth.boxes[:, 2:] - truth.boxes[:, :2]
    logs = np.sort(np.log(sides[:, 1] / sides[:, 0]))
    return tuple(round(float(np.exp(np.median(part))), 2) for part in np.array_split(logs, count) if len(part))


class Coverage(NamedTuple):
    """What a layout gives: share of the boxes with an anchor at IoU >= 0.5, and the mean over boxes of the best IoU."""

    layout: AnchorLayout
    matched: float
    mean: float


def search(truth: GroundTruth, now: AnchorLayout) -> list[Coverage]:
    """Layouts that cover more, cheapest change first: other anchors on the same levels, then with P2, then on a larger input.

    Of each kind the one with the fewest anchors among those within ``WORTH`` of the best coverage and ``LOOSER`` of the best mean IoU.

    Args:
        truth: of the training data.
        now: the layout to improve on.
    """
    ratios = {now.ratios, fitted_ratios(truth, 1), fitted_ratios(truth, 3)}
    with_p2 = tuple(range(2, now.levels[-1] + 1))
    kinds = [[(now.levels, 1.0)], [(with_p2, 1.0)] if now.levels[0] > 2 else [], [(now.levels, factor) for factor in LOOKED_FOR_INPUTS[1:]]]
    found = []
    for kind in kinds:
        tried = [
            coverage(truth, dataclasses.replace(now, levels=levels, input=factor, scale=scale, scales_per_octave=octave, ratios=ratio))
            for levels, factor in kind for scale in LOOKED_FOR_SCALES for octave in LOOKED_FOR_OCTAVES for ratio in sorted(ratios)
        ]  # fmt: skip
        if tried:
            best = max(one.matched for one in tried)
            good = [one for one in tried if one.matched >= best - WORTH]
            closest = max(one.mean for one in good)
            good = [one for one in good if one.mean >= closest - LOOSER]
            found.append(min(good, key=lambda one: (round(one.layout.locations, 6), -one.mean)))
    return found


def coverage(truth: GroundTruth, layout: AnchorLayout) -> Coverage:
    """Of one layout; (0, 0) without boxes."""
    best = layout.best_overlaps(truth)
    return Coverage(layout, float((best >= 0.5).mean()) if len(best) else 0.0, float(best.mean()) if len(best) else 0.0)


def advised(now: Coverage, found: list[Coverage]) -> Coverage:
    """The one to take: the first that covers ``WORTH`` more than all before it, or as much with ``CHEAPER`` as many anchors; ``now`` if none does."""
    chosen = now
    for one in found:
        if one.matched > chosen.matched + WORTH or (one.matched >= chosen.matched and one.layout.locations < CHEAPER * chosen.layout.locations):
            chosen = one
    return chosen


SIZES = {"below 16²": (0, 16**2), "16²-32²": (16**2, 32**2), "32²-96²": (32**2, 96**2), "above 96²": (96**2, np.inf)}
"""Bins of the area in pixels of the network input; COCO's small ends at 32², medium at 96²."""

ASPECTS = {"wider than 2:1": (0, 0.5), "between": (0.5, 2.0), "taller than 1:2": (2.0, np.inf)}
"""Bins of height / width."""


def coverage_table(truth: GroundTruth, best: np.ndarray, class_names: list[str]) -> str:
    """Markdown: by size, aspect and class, how many boxes have an anchor at IoU >= 0.5, how many only a low-quality match, how many none.

    Args:
        truth: the boxes.
        best: (M,) of :meth:`AnchorLayout.best_overlaps`.
        class_names: K.
    """
    sides = truth.boxes[:, 2:] - truth.boxes[:, :2]
    area, aspect = sides.prod(axis=1), sides[:, 1] / np.maximum(sides[:, 0], 1e-9)
    rows = [("all", np.ones(len(best), dtype=bool))]
    rows += [(f"area {name}", (area >= low) & (area < high)) for name, (low, high) in SIZES.items()]
    rows += [(name, (aspect >= low) & (aspect < high)) for name, (low, high) in ASPECTS.items()]
    rows += [(name, truth.classes == k) for k, name in enumerate(class_names)]
    lines = ["| boxes | number | IoU >= 0.5 | low-quality match only | no anchor overlaps |", "|---|---|---|---|---|"]
    for name, chosen in rows:
        if n := int(chosen.sum()):
            matched, none = int((best[chosen] >= 0.5).sum()), int((best[chosen] <= 0).sum())
            lines.append(f"| {name} | {n} | {matched} ({100 * matched / n:.1f} %) | {n - matched - none} ({100 * (n - matched - none) / n:.1f} %) | {none} |")
    return "\n".join(lines)


def fragment(layout: AnchorLayout, *, shortest: int, longest: int) -> str:
    """The config keys of a layout, as YAML to put below a ``_BASE_``; sizes of the input only if they are to change."""
    lines = [
        "MODEL:", "  ANCHOR_GENERATOR:", f"    SCALE: {layout.scale}", f"    SCALES_PER_OCTAVE: {layout.scales_per_octave}",
        f"    ASPECT_RATIOS: [[{', '.join(f'{ratio:g}' if ratio % 1 else f'{ratio:.1f}' for ratio in layout.ratios)}]]", "  RETINANET:", f"    LEVELS: {list(layout.levels)}",
    ]  # fmt: skip
    if layout.input != 1:
        a, b = round(shortest * layout.input), round(longest * layout.input)
        lines += ["INPUT:", f"  MIN_SIZE_TRAIN: [{a}]", f"  MAX_SIZE_TRAIN: {b}", f"  MIN_SIZE_TEST: {a}", f"  MAX_SIZE_TEST: {b}"]
    return "\n".join(lines) + "\n"
