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

ENOUGH, ENOUGH_OF_A_CLASS = 0.99, 0.9
"""Shares of all boxes, and of those of the class that is covered least, from which on nothing is looked for."""

LAG = 0.1
"""Share by which a class is covered less than all boxes before it counts for more than its number."""

FEW = 20
"""Boxes below which a class says nothing about anchors."""

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
    return GroundTruth(
        np.array(boxes, dtype=float).reshape(-1, 4),
        np.array(classes, dtype=int),
        np.array(image, dtype=int),
        np.array(sizes, dtype=float).reshape(-1, 2),
    )


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
        """Build from a config.

        Raises:
            ValueError: it lists sizes of its own (MODEL.ANCHOR_GENERATOR.SIZES).
        """
        node = cfg.MODEL.ANCHOR_GENERATOR
        if node.SIZES:
            raise ValueError(
                "MODEL.ANCHOR_GENERATOR.SIZES lists sizes; the anchors that follow from SCALE and SCALES_PER_OCTAVE can be looked at"
            )
        levels = PyramidLevels.from_config(cfg).levels
        return cls(
            levels,
            cfg.MODEL.ANCHOR_GENERATOR.SCALE,
            cfg.MODEL.ANCHOR_GENERATOR.SCALES_PER_OCTAVE,
            tuple(node.ASPECT_RATIOS[0]),
            node.OFFSET,
        )

    def shapes(self) -> np.ndarray:
        """(S, 3) stride, width, height of every anchor of one location of every level."""
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
            shared = _shared(x, width, w, _nearest(x, stride, sizes[:, 1:], self.offset)) * _shared(
                y, height, h, _nearest(y, stride, sizes[:, :1], self.offset)
            )
            best[part] = (shared / (width * height + w * h - shared)).max(axis=1)
        return best


def _nearest(centre: np.ndarray, stride: np.ndarray, side: np.ndarray, offset: float) -> np.ndarray:
    """Centre of the nearest anchor along one axis, (m, S), on a grid that covers the image."""
    last = np.ceil(side / stride) - 1
    return (np.clip(np.round(centre / stride - offset), 0, last) + offset) * stride


def _shared(centre: np.ndarray, side: np.ndarray, anchor: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Length that a box and an anchor share along one axis, (m, S)."""
    return np.clip(
        np.minimum(centre + side / 2, at + anchor / 2) - np.maximum(centre - side / 2, at - anchor / 2), 0, None
    )


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
    """What a layout gives.

    Attributes:
        layout: the layout.
        matched: share of the boxes with an anchor at IoU >= 0.5.
        mean: over boxes of the best IoU.
        least: ``matched`` of the class with ``FEW`` boxes or more that is covered least; of all boxes if there is none.
    """

    layout: AnchorLayout
    matched: float
    mean: float
    least: float

    @property
    def enough(self) -> bool:
        """Whether so many boxes have an anchor that other layouts are not worth a look."""
        return self.matched >= ENOUGH and self.least >= ENOUGH_OF_A_CLASS

    @property
    def lacks_a_class(self) -> bool:
        """Whether a class is covered much less than the rest."""
        return self.least < min(ENOUGH_OF_A_CLASS, self.matched - LAG)


def search(truth: GroundTruth, now: AnchorLayout) -> list[Coverage]:
    """Find layouts that cover more, cheapest change first: other anchors on the same levels, then with levels up to P7
    where boxes are larger than all anchors, then with P2, then on a larger input.

    Of each kind the one with the fewest anchors among those within ``WORTH`` of the best coverage and ``LOOSER`` of the best mean IoU;
    where a class is covered too little, it counts for half of the coverage.

    Args:
        truth: of the training data.
        now: the layout to improve on.

    Returns:
        The best of each kind; nothing where ``now`` covers enough.
    """
    covered = coverage(truth, now)
    if not len(truth.boxes) or covered.enough:
        return []
    ratios = {now.ratios, fitted_ratios(truth, 1), fitted_ratios(truth, 3)}
    with_p2 = tuple(range(2, now.levels[-1] + 1))
    up_to_p7 = tuple(range(now.levels[0], 8))
    kinds = [
        [(now.levels, 1.0)],
        [(up_to_p7, 1.0)] if now.levels[-1] < 7 and _too_large(truth, now) else [],
        [(with_p2, 1.0)] if now.levels[0] > 2 else [],
        [(now.levels, factor) for factor in LOOKED_FOR_INPUTS[1:]],
    ]
    found = []
    for kind in kinds:
        tried = [
            coverage(
                truth,
                dataclasses.replace(
                    now, levels=levels, input=factor, scale=scale, scales_per_octave=octave, ratios=ratio
                ),
            )
            for levels, factor in kind
            for scale in LOOKED_FOR_SCALES
            for octave in LOOKED_FOR_OCTAVES
            for ratio in sorted(ratios)
        ]
        if tried:
            reach = [(one.matched + one.least) / 2 if covered.lacks_a_class else one.matched for one in tried]
            good = [one for one, share in zip(tried, reach, strict=True) if share >= max(reach) - WORTH]
            closest = max(one.mean for one in good)
            good = [one for one in good if one.mean >= closest - LOOSER]
            found.append(min(good, key=lambda one: (round(one.layout.locations, 6), -one.mean)))
    return found


def _too_large(truth: GroundTruth, layout: AnchorLayout) -> bool:
    """Whether boxes of more than twice the area of the largest anchor, whose IoU is below 0.5, are ``WORTH`` a level."""
    largest = layout.shapes()[:, 1:].prod(axis=1).max()
    return bool(((truth.boxes[:, 2:] - truth.boxes[:, :2]).prod(axis=1) > 2 * largest).mean() > WORTH)


def coverage(truth: GroundTruth, layout: AnchorLayout) -> Coverage:
    """Compute the coverage of one layout; all 0 if there are no boxes."""
    best = layout.best_overlaps(truth)
    if not len(best):
        return Coverage(layout, 0.0, 0.0, 0.0)
    matched = best >= 0.5
    classes = [matched[truth.classes == k] for k in np.unique(truth.classes)]
    least = min((float(of.mean()) for of in classes if len(of) >= FEW), default=float(matched.mean()))
    return Coverage(layout, float(matched.mean()), float(best.mean()), least)


def advised(now: Coverage, found: list[Coverage]) -> Coverage:
    """Return the layout to take: ``now`` if it covers enough or none is better, else the first that covers enough, else the best.

    Better is to cover ``WORTH`` more boxes than all before, or of the least covered class ten times that and no fewer in all, or
    as much with ``CHEAPER`` as many anchors where no class lacks any.
    """
    chosen = now
    for one in found:
        if chosen.enough:
            break
        more = one.matched > chosen.matched + WORTH
        helps_a_class = (
            chosen.lacks_a_class and one.least > chosen.least + 10 * WORTH and one.matched >= chosen.matched - WORTH
        )
        as_good = one.matched >= chosen.matched and one.mean >= chosen.mean - LOOSER and not chosen.lacks_a_class
        if more or helps_a_class or (as_good and one.layout.locations < CHEAPER * chosen.layout.locations):
            chosen = one
    return chosen


def advice(now: Coverage, found: list[Coverage], *, shortest: int, longest: int) -> str:
    """Say in words which layout to take, with its config keys, or why none.

    Args:
        now: what the config gives.
        found: of :func:`search`.
        shortest, longest: sides of the network input now.
    """
    of_a_class = f" ({100 * now.least:.1f} % of the class covered least)" if now.least < now.matched - WORTH else ""
    covered = f"{100 * now.matched:.1f} % of the boxes{of_a_class} have an anchor at IoU >= 0.5"
    if now.enough:
        return f"{covered}: there is nothing to change."
    chosen = advised(now, found)
    if chosen is now:
        return f"{covered}, and nothing that was tried covers enough more to be worth it."
    if of_a_class:
        of_a_class = f" ({100 * chosen.least:.1f} % instead of {100 * now.least:.1f} % of the class covered least)"
    cost = chosen.layout.locations / now.layout.locations
    text = f"To cover {100 * chosen.matched:.1f} % instead of {100 * now.matched:.1f} %{of_a_class}, with {cost:.2f} times the anchors:"
    if chosen.matched < 0.5:
        text = f"Most boxes stay without an anchor whatever is tried; only larger images, or parts of the images, would change that. {text}"
    return f"{text}\n\n{fragment(chosen.layout, shortest=shortest, longest=longest)}"


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
            lines.append(
                f"| {name} | {n} | {matched} ({100 * matched / n:.1f} %) | {n - matched - none} ({100 * (n - matched - none) / n:.1f} %) | {none} |"
            )
    return "\n".join(lines)


def fragment(layout: AnchorLayout, *, shortest: int, longest: int) -> str:
    """The config keys of a layout, as YAML to put below a ``_BASE_``; sizes of the input only if they are to change."""
    lines = [
        "MODEL:",
        "  ANCHOR_GENERATOR:",
        f"    SCALE: {layout.scale}",
        f"    SCALES_PER_OCTAVE: {layout.scales_per_octave}",
        f"    ASPECT_RATIOS: [[{', '.join(f'{ratio:g}' if ratio % 1 else f'{ratio:.1f}' for ratio in layout.ratios)}]]",
        "  RETINANET:",
        f"    LEVELS: {list(layout.levels)}",
    ]
    if layout.input != 1:
        a, b = round(shortest * layout.input), round(longest * layout.input)
        lines += [
            "INPUT:",
            f"  MIN_SIZE_TRAIN: [{a}]",
            f"  MAX_SIZE_TRAIN: {b}",
            f"  MIN_SIZE_TEST: {a}",
            f"  MAX_SIZE_TEST: {b}",
        ]
    return "\n".join(lines) + "\n"
