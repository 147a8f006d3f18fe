"""Which ground truth has a matching anchor, and which anchors would suit it better."""

import dataclasses
from typing import NamedTuple

import numpy as np

from retina_plugin.analysis.anchor_layout import AnchorLayout, GroundTruth, ground_truth

__all__ = [
    "AnchorLayout",
    "Coverage",
    "GroundTruth",
    "advice",
    "advised",
    "coverage",
    "coverage_table",
    "fitted_ratios",
    "fragment",
    "ground_truth",
    "search",
]

LOOKED_FOR_SCALES = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
LOOKED_FOR_OCTAVES = (2, 3, 4)
LOOKED_FOR_INPUTS = (1.0, 1.5, 2.0)
WORTH = 0.005
"""Share of the boxes that more anchors, an additional level or a larger input must gain to be advised."""

CHEAPER = 0.9
"""A layout with the same coverage is advised if it has less than this share of the anchors."""

ENOUGH, ENOUGH_OF_A_CLASS = 0.99, 0.9
"""Covered shares of all boxes, and of the class covered least, from which on no other layout is searched."""

LAG = 0.1
"""Share by which a class must be covered less than all boxes before it gets extra weight."""

FEW = 20
"""Minimum number of boxes of a class for its coverage to count."""

LOOSER = 0.04
"""Mean best IoU that fewer anchors may cost: boxes far from their anchor are harder to learn."""


def fitted_ratios(truth: GroundTruth, count: int) -> tuple[float, ...]:
    """Return ``count`` aspect ratios (height / width) that fit the boxes.

    The boxes are sorted by ratio and divided into ``count`` equal parts; each ratio is the median of one part.

    Example:
        >>> boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 20], [0, 0, 10, 21], [0, 0, 10, 9]])
        >>> fitted_ratios(GroundTruth(boxes, np.zeros(4), np.zeros(4, int), np.zeros((1, 2))), 2)
        (0.95, 2.05)
    """
    sides = truth.boxes[:, 2:] - truth.boxes[:, :2]
    logs = np.sort(np.log(sides[:, 1] / sides[:, 0]))
    return tuple(round(float(np.exp(np.median(part))), 2) for part in np.array_split(logs, count) if len(part))


class Coverage(NamedTuple):
    """How well a layout covers the boxes.

    Attributes:
        layout: the layout.
        matched: share of the boxes with an anchor at IoU >= 0.5.
        mean: mean over the boxes of the best IoU.
        least: ``matched`` of the class covered least among those with at least ``FEW`` boxes; of all boxes without one.
    """

    layout: AnchorLayout
    matched: float
    mean: float
    least: float

    @property
    def enough(self) -> bool:
        """Whether enough boxes have an anchor that no other layout needs to be searched."""
        return self.matched >= ENOUGH and self.least >= ENOUGH_OF_A_CLASS

    @property
    def lacks_a_class(self) -> bool:
        """Whether one class is covered much less than the others."""
        return self.least < min(ENOUGH_OF_A_CLASS, self.matched - LAG)


def search(truth: GroundTruth, now: AnchorLayout) -> list[Coverage]:
    """Search layouts that cover more boxes, cheapest kind of change first.

    The kinds are: other anchors on the same levels; levels up to P7, if boxes are larger than all anchors; P2 in
    addition; a larger input. Of each kind the result is the layout with the fewest anchors among those within
    ``WORTH`` of the best coverage and ``LOOSER`` of the best mean IoU. If a class is covered too little, it makes up
    half of the coverage.

    Args:
        truth: boxes of the training data.
        now: the layout to improve on.

    Returns:
        The best layout of each kind; empty if ``now`` covers enough.
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
        layouts = [
            dataclasses.replace(now, levels=levels, input=factor, scale=scale, scales_per_octave=octave, ratios=ratio)
            for levels, factor in kind
            for scale in LOOKED_FOR_SCALES
            for octave in LOOKED_FOR_OCTAVES
            for ratio in sorted(ratios)
        ]
        tried = [coverage(truth, layout) for layout in layouts]
        if tried:
            reach = [(one.matched + one.least) / 2 if covered.lacks_a_class else one.matched for one in tried]
            good = [one for one, share in zip(tried, reach, strict=True) if share >= max(reach) - WORTH]
            closest = max(one.mean for one in good)
            good = [one for one in good if one.mean >= closest - LOOSER]
            found.append(min(good, key=lambda one: (round(one.layout.locations, 6), -one.mean)))
    return found


def _too_large(truth: GroundTruth, layout: AnchorLayout) -> bool:
    """Return whether more than ``WORTH`` of the boxes are so large that an additional level is worth its cost.

    A box of more than twice the area of the largest anchor has an IoU below 0.5 with every anchor.
    """
    largest = layout.shapes()[:, 1:].prod(axis=1).max()
    areas = (truth.boxes[:, 2:] - truth.boxes[:, :2]).prod(axis=1)
    return bool((areas > 2 * largest).mean() > WORTH)


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
    """Choose a layout: ``now`` if it covers enough or none is better, else the first with enough, else the best.

    A layout is better than all before it if it covers ``WORTH`` more of the boxes; or ten times that more of the class
    covered least, and no fewer boxes in total; or as many boxes with ``CHEAPER`` times the anchors, unless a class
    lags.
    """
    chosen = now
    for one in found:
        if chosen.enough:
            break
        if _is_better(one, chosen):
            chosen = one
    return chosen


def _is_better(one: Coverage, chosen: Coverage) -> bool:
    """Return whether a layout is to be preferred to the one chosen so far; see :func:`advised`."""
    if one.matched > chosen.matched + WORTH:
        return True
    if chosen.lacks_a_class:
        return one.least > chosen.least + 10 * WORTH and one.matched >= chosen.matched - WORTH
    as_good = one.matched >= chosen.matched and one.mean >= chosen.mean - LOOSER
    return as_good and one.layout.locations < CHEAPER * chosen.layout.locations


def advice(now: Coverage, found: list[Coverage], *, shortest: int, longest: int) -> str:
    """Describe which layout to use, with its config keys, or why no change is needed.

    Args:
        now: coverage of the config's layout.
        found: the layouts that :func:`search` returned.
        shortest: shorter side of the current network input, pixels.
        longest: limit of its longer side, pixels.
    """
    of_a_class = f" ({100 * now.least:.1f} % of the class covered least)" if now.least < now.matched - WORTH else ""
    covered = f"{100 * now.matched:.1f} % of the boxes{of_a_class} have an anchor at IoU >= 0.5"
    if now.enough:
        return f"{covered}: no change is needed."
    chosen = advised(now, found)
    if chosen is now:
        return f"{covered}, and no layout that was tried covers enough more to be worth its cost."
    if of_a_class:
        of_a_class = f" ({100 * chosen.least:.1f} % instead of {100 * now.least:.1f} % of the class covered least)"
    cost = chosen.layout.locations / now.layout.locations
    text = (
        f"To cover {100 * chosen.matched:.1f} % instead of {100 * now.matched:.1f} %{of_a_class}, "
        f"with {cost:.2f} times the anchors:"
    )
    if chosen.matched < 0.5:
        text = f"No layout covers most of the boxes; larger images, or images cut into tiles, would. {text}"
    return f"{text}\n\n{fragment(chosen.layout, shortest=shortest, longest=longest)}"


SIZES = {"below 16²": (0, 16**2), "16²-32²": (16**2, 32**2), "32²-96²": (32**2, 96**2), "above 96²": (96**2, np.inf)}
"""Bins of the area in pixels of the network input; COCO's small boxes end at 32², medium ones at 96²."""

ASPECTS = {"wider than 2:1": (0, 0.5), "between": (0.5, 2.0), "taller than 1:2": (2.0, np.inf)}
"""Bins of height / width."""


def coverage_table(truth: GroundTruth, best: np.ndarray, class_names: list[str]) -> str:
    """Format, as Markdown, how many boxes have an anchor at IoU >= 0.5, only a low-quality match, or none.

    The rows are all boxes, bins of size and aspect, and the classes; those without boxes are left out.

    Args:
        truth: the boxes.
        best: (M,) best IoU of each box, from :meth:`AnchorLayout.best_overlaps`.
        class_names: K names.
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
            low = n - matched - none
            shares = f"{matched} ({100 * matched / n:.1f} %) | {low} ({100 * low / n:.1f} %)"
            lines.append(f"| {name} | {n} | {shares} | {none} |")
    return "\n".join(lines)


def fragment(layout: AnchorLayout, *, shortest: int, longest: int) -> str:
    """Return the config keys of a layout as YAML to put below a ``_BASE_``; INPUT only if the input's size changes."""
    ratios = ", ".join(f"{ratio:g}" if ratio % 1 else f"{ratio:.1f}" for ratio in layout.ratios)
    lines = [
        "MODEL:",
        "  ANCHOR_GENERATOR:",
        f"    SCALE: {layout.scale}",
        f"    SCALES_PER_OCTAVE: {layout.scales_per_octave}",
        f"    ASPECT_RATIOS: [[{ratios}]]",
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
