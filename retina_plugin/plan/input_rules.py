"""Rules about the input of the network: its size or tiles, and flips.

docs/plan.md has the measurement behind every rule and constant.
"""

import math
from typing import Any

from retina_plugin.plan.draft import Choice, Draft
from retina_plugin.plan.symmetry import Symmetry

READABLE = 28.0
"""Size in the network input of training, pixels, that the smallest 5 % of the objects should reach."""

SMALLER = "smaller input"
"""Subject of the choice that lowers the input size."""

ENOUGH_STEPS = 350
"""Steps of training that are worth more than enlarging the images."""

LEAST_STEPS, MIDDLE = 200, 36.0
"""Steps of training for which images are even reduced further than the objects need, and the size, pixels, that an
object in the middle of all by size keeps."""

MOST_ENLARGED = 2.0
"""Factor beyond which enlarging an image adds no detail."""

SMALLEST_INPUT, LARGEST_INPUT = 160, 448
"""Bounds of the shorter side of whole training images, pixels. Images whose longer side would be more than 4/3 of the
second are cut into tiles."""

TILE_INPUT = 320
"""Side of a tile in training, pixels."""

GRID = 32
"""The shorter side is a multiple of this, so that no level of the pyramid is padded much."""

SPREAD = (0.8, 0.9, 1.0, 1.1, 1.2)
"""Sizes of training images in relation to their middle."""

LARGER_IN_EVALUATION = 1.125
"""Size in evaluation in relation to the middle of those in training."""

ONE_SIDED, SURELY = 0.1, 0.01
"""Images are not mirrored if the asymmetry of the objects is above the first and its p below the second."""

ELONGATED = 0.8, 1.25
"""Images are not turned if the median of height / width of the objects is outside of these."""

EITHER_WAY, SEEN_OFTEN = 0.05, 200
"""Images are flipped upside down and turned if the asymmetry of the objects, seen so often, is below the first."""


def resolution(draft: Draft) -> Choice:
    """Choose the input size, or tiles, so that all but the smallest objects are large enough to be recognised."""
    facts = draft.facts
    most = MOST_ENLARGED * facts.shorter[2]
    wanted = min(READABLE / facts.shares[0], most)
    why = f"5 % of the objects are smaller than {facts.sides[0]:.0f} px"
    why += f"; enlarging more than {MOST_ENLARGED:g} times adds no detail" if wanted == most else ""
    why += "" if wanted == most else f"; {READABLE:g} px are recognised well"
    why += "; in evaluation an eighth larger, which is better after training (docs/plan.md)"
    aspect = max(facts.height, facts.width) / min(facts.height, facts.width)
    if wanted * aspect > 4 / 3 * LARGEST_INPUT and (tiles := _tiles(draft, why)):
        return tiles
    cost = ""
    if wanted > LARGEST_INPUT:
        cost = f"{wanted:.0f} px were wanted, in tiles; too many objects are longer than half a tile"
    shorter = min(max(GRID * round(wanted / GRID), SMALLEST_INPUT), LARGEST_INPUT)
    return Choice("input size", _sizes(draft, shorter), why, cost)


def _sizes(draft: Draft, shorter: int) -> dict[str, Any]:
    """Return the keys for whole images whose shorter side is around this one in training."""
    aspect = max(4 / 3, _longest_aspect(draft))
    return {
        "INPUT.MIN_SIZE_TRAIN": _spread(shorter),
        "INPUT.MAX_SIZE_TRAIN": math.ceil(shorter * aspect * SPREAD[-1]),
        "INPUT.MIN_SIZE_TEST": _in_evaluation(shorter),
        "INPUT.MAX_SIZE_TEST": math.ceil(_in_evaluation(shorter) * aspect),
    }


def _spread(shorter: int) -> list[int]:
    """Return the sizes of training images, multiples of 8 px around this one."""
    return [8 * round(factor * shorter / 8) for factor in SPREAD]


def _in_evaluation(shorter: int) -> int:
    """Return the size in evaluation, on the grid, for images of this size in training."""
    return GRID * round(LARGER_IN_EVALUATION * shorter / GRID)


def affordable(draft: Draft) -> Choice | None:
    """Enlarge images less if the time does not suffice for ``ENOUGH_STEPS``, and reduce them for ``LEAST_STEPS``.

    They are not reduced so far that half of the objects would be smaller than ``MIDDLE``.
    """
    facts, speed, before = draft.facts, draft.speed, draft.training_sides[0]
    if not (draft.budget.minutes and speed) or draft.settled["TEST.TILES.SIZE"] or not before:
        return None

    def steps(shorter: int) -> float:
        """Return the steps that fit into the time; their cost is in proportion to the pixels."""
        faster = speed.times((shorter / before) ** 2)
        images = faster.images_in(draft.budget.minutes or 0, evaluated=draft.last_images)
        return images / draft.settled["SOLVER.IMS_PER_BATCH"]

    shorter = before
    while shorter - GRID >= SMALLEST_INPUT:
        enlarged = shorter - GRID >= facts.shorter[2]
        if steps(shorter) >= (ENOUGH_STEPS if enlarged else LEAST_STEPS):
            break
        if not enlarged and facts.shares[2] * (shorter - GRID) < MIDDLE:
            break
        shorter -= GRID
    if shorter == before:
        return None
    why = f"only {steps(before):.0f} steps of {before} px fit into {draft.budget.minutes:g} minutes"
    cost = f"the smallest 5 % of the objects have {facts.shares[0] * shorter:.0f} px"
    draft.speed = speed.times((shorter / before) ** 2)
    return Choice(SMALLER, _sizes(draft, shorter), why, cost)


def _longest_aspect(draft: Draft) -> float:
    """Return the ratio of the sides of the typical image, at most 4, from which on the longer side is limited."""
    return min(4.0, max(draft.facts.height, draft.facts.width) / min(draft.facts.height, draft.facts.width))


def _tiles(draft: Draft, why: str) -> Choice | None:
    """Return tiles in which the smallest objects are readable; None if many objects would not fit into one."""
    facts = draft.facts
    zoom = min(READABLE / facts.sides[0], MOST_ENLARGED)
    side = round(TILE_INPUT / zoom)
    if facts.longest[4] > side / 2:
        return None
    overlap = min(0.5, max(0.1, math.ceil(20 * facts.longest[4] / side) / 20))
    objects = [x["bbox"] for record in draft.records for x in record["annotations"] if not x.get("iscrowd")]
    settings = {
        "INPUT.TILES.SIZE": side,
        "TEST.TILES.SIZE": side,
        "TEST.TILES.OVERLAP": overlap,
        "TEST.TILES.WHOLE": max(max(box[2] - box[0], box[3] - box[1]) for box in objects) > side,
        "INPUT.MIN_SIZE_TRAIN": _spread(TILE_INPUT),
        "INPUT.MIN_SIZE_TEST": _in_evaluation(TILE_INPUT),
        "INPUT.MAX_SIZE_TEST": _in_evaluation(TILE_INPUT),
        "TEST.VALIDATION_LOSS": False,  # it would look at whole images
    }
    why = f"{why}; a whole image would have {zoom * min(facts.height, facts.width):.0f} px"
    views = draft.after(Choice("tiles", settings, why)).views
    return Choice("tiles", settings, why, f"an image is {views} tiles to predict on; no validation loss")


def mirroring(draft: Draft) -> Choice | None:
    """Do not mirror images whose objects would become others; flip and turn those whose objects look the same."""
    symmetry = draft.facts.symmetry
    if not symmetry:
        return None
    mirrored, upside_down, turned = (symmetry[name] for name in ("mirrored", "upside_down", "turned"))
    asymmetry = max(mirrored.asymmetry if mirrored.p < SURELY else 0.0, mirrored.worst)
    if asymmetry > ONE_SIDED:
        of = "objects" if mirrored.worst <= ONE_SIDED else "objects of at least one class"
        return Choice(
            "flips",
            {"INPUT.RANDOM_FLIP": "none"},
            f"{of} differ from their mirror images (asymmetry {asymmetry:.2f}; {mirrored.objects} objects)",
            "half as many different images",
        )
    if not (_is_symmetrical(mirrored) and _is_symmetrical(upside_down)):
        return None
    settings = {"INPUT.RANDOM_FLIP_VERTICAL": True}
    if _is_symmetrical(turned) and ELONGATED[0] < draft.facts.ratios[2] < ELONGATED[1]:
        settings["INPUT.ROTATE_90"] = True
    return Choice(
        "flips",
        settings,
        f"{upside_down.objects} objects look the same in a mirror, upside down and turned (asymmetry "
        f"{mirrored.asymmetry:.2f}, {upside_down.asymmetry:.2f}, {turned.asymmetry:.2f})",
    )


def _is_symmetrical(found: Symmetry) -> bool:
    """Return whether a change leaves all classes as they are, as far as enough objects show."""
    return found.asymmetry <= EITHER_WAY and found.worst <= ONE_SIDED and found.objects >= SEEN_OFTEN
