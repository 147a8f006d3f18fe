"""Rules about the input of the network: its size or tiles, anchors, detections and flips.

docs/plan.md has the measurement behind every rule and constant.
"""

import math
from typing import Any

import numpy as np

from retina_plugin.analysis.coverage import AnchorLayout, GroundTruth, advised, coverage, ground_truth, search
from retina_plugin.plan.draft import Choice, Draft
from retina_plugin.plan.symmetry import Symmetry

READABLE = 28.0
"""Size in the network input, pixels, that the smallest 5 % of the objects should reach."""

SMALLER = "smaller input"
"""Subject of the choice that lowers the input size."""

ENOUGH_STEPS = 450
"""Steps of training that are worth more than enlarging the images."""

MOST_ENLARGED = 2.0
"""Factor beyond which enlarging an image adds no detail."""

SMALLEST_INPUT, LARGEST_INPUT = 160, 448
"""Bounds of the shorter side of the network input for whole images, pixels. Images whose longer side would be more than
4/3 of the second are cut into tiles."""

TILE_INPUT = 320
"""Side of a tile in the network input, pixels."""

GRID = 32
"""The shorter side is a multiple of this, so that no level of the pyramid is padded much."""

SPREAD = (0.8, 0.9, 1.0, 1.1, 1.2)
"""Sizes of training images in relation to that of evaluation."""

MOST_COMPARED = 20_000
"""Objects that anchors are compared with; of more, those of every second, third, ... image."""

OBJECTS_PER_DETECTION = 1.5
"""Detections that are kept for each object of the image with the most."""

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
    aspect = max(facts.height, facts.width) / min(facts.height, facts.width)
    if wanted * aspect > 4 / 3 * LARGEST_INPUT and (tiles := _tiles(draft, why)):
        return tiles
    cost = ""
    if wanted > LARGEST_INPUT:
        cost = f"{wanted:.0f} px were wanted, in tiles; too many objects are longer than half a tile"
    shorter = min(max(GRID * round(wanted / GRID), SMALLEST_INPUT), LARGEST_INPUT)
    return Choice("input size", _sizes(draft, shorter), why, cost)


def _sizes(draft: Draft, shorter: int) -> dict[str, Any]:
    """Return the keys for whole images with this shorter side in evaluation."""
    longest = math.ceil(shorter * max(4 / 3, _longest_aspect(draft)))
    return {
        "INPUT.MIN_SIZE_TEST": shorter,
        "INPUT.MAX_SIZE_TEST": longest,
        "INPUT.MIN_SIZE_TRAIN": _spread(shorter),
        "INPUT.MAX_SIZE_TRAIN": math.ceil(longest * SPREAD[-1]),
    }


def _spread(shorter: int) -> list[int]:
    """Return the sizes of training images, multiples of 8 px around that of evaluation."""
    return [8 * round(factor * shorter / 8) for factor in SPREAD]


def affordable(draft: Draft) -> Choice | None:
    """Enlarge images less if the time does not suffice for ``ENOUGH_STEPS``; none becomes smaller than it is."""
    facts, speed, before = draft.facts, draft.speed, draft.settled["INPUT.MIN_SIZE_TEST"]
    if not (draft.budget.minutes and speed) or draft.settled["TEST.TILES.SIZE"] or not before:
        return None
    least = max(SMALLEST_INPUT, GRID * math.ceil(facts.shorter[2] / GRID))

    def steps(shorter: int) -> float:
        """Return the steps that fit into the time; their cost is in proportion to the pixels."""
        faster = speed.times((shorter / before) ** 2)
        images = faster.images_in(draft.budget.minutes or 0, evaluated=draft.last_images)
        return images / draft.settled["SOLVER.IMS_PER_BATCH"]

    shorter = before
    while steps(shorter) < ENOUGH_STEPS and shorter - GRID >= least:
        shorter -= GRID
    if shorter == before:
        return None
    why = f"only {steps(before):.0f} steps of {before} px fit into {draft.budget.minutes:g} minutes"
    cost = f"the smallest 5 % of the objects have {facts.shares[0] * shorter:.0f} px"
    draft.speed = speed.times((shorter / before) ** 2)
    return Choice(SMALLER, _sizes(draft, shorter), why, cost)


def anchors_again(draft: Draft) -> Choice | None:
    """Fit the anchors again if the input became smaller."""
    return anchors(draft) if any(choice.what == SMALLER for choice in draft.choices) else None


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
        "INPUT.MIN_SIZE_TEST": TILE_INPUT,
        "INPUT.MAX_SIZE_TEST": TILE_INPUT,
        "INPUT.MIN_SIZE_TRAIN": _spread(TILE_INPUT),
        "TEST.VALIDATION_LOSS": False,  # it would look at whole images
    }
    why = f"{why}; a whole image would have {zoom * min(facts.height, facts.width):.0f} px"
    views = draft.after(Choice("tiles", settings, why)).views
    return Choice("tiles", settings, why, f"an image is {views} tiles to predict on; no validation loss")


def anchors(draft: Draft) -> Choice | None:
    """Choose anchors and levels that match the objects at the input size; None if those of the base do.

    A level below the base's is not added: it would take three quarters of the time. If images are turned, the objects
    are compared turned as well.
    """
    records = draft.records[:: 1 + draft.facts.objects // MOST_COMPARED]
    if draft.settled["TEST.TILES.SIZE"]:  # every object as if its image were a tile
        truth = ground_truth(records, shortest=0, longest=0)
        truth = truth._replace(boxes=truth.boxes * draft.zoom, sizes=truth.sizes * draft.zoom)
    else:
        sizes = {"shortest": draft.settled["INPUT.MIN_SIZE_TEST"], "longest": draft.settled["INPUT.MAX_SIZE_TEST"]}
        truth = ground_truth(records, **sizes)
    if draft.settled["INPUT.ROTATE_90"]:
        truth = _with_turned(truth)
    now = AnchorLayout(
        tuple(draft.settled["MODEL.RETINANET.LEVELS"]),
        draft.settled["MODEL.ANCHOR_GENERATOR.SCALE"],
        draft.settled["MODEL.ANCHOR_GENERATOR.SCALES_PER_OCTAVE"],
        tuple(draft.settled["MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS"][0]),
    )
    covered = coverage(truth, now)
    kinds = [one for one in search(truth, now) if one.layout.input == 1 and one.layout.levels[0] >= now.levels[0]]
    chosen = advised(covered, kinds)
    if chosen is covered:
        return None
    layout = chosen.layout
    return Choice(
        "anchors",
        {
            "MODEL.RETINANET.LEVELS": list(layout.levels),
            "MODEL.ANCHOR_GENERATOR.SCALE": layout.scale,
            "MODEL.ANCHOR_GENERATOR.SCALES_PER_OCTAVE": layout.scales_per_octave,
            "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [list(layout.ratios)],
        },
        f"{100 * chosen.matched:.0f} % instead of {100 * covered.matched:.0f} % of the objects have an anchor at "
        "IoU 0.5",
        f"{layout.locations / now.locations:.2f} times the anchors",
    )


def _with_turned(truth: GroundTruth) -> GroundTruth:
    """Return boxes together with the same ones turned by 90 degrees, in images of their own."""
    images = len(truth.sizes)
    return GroundTruth(
        np.concatenate([truth.boxes, truth.boxes[:, [1, 0, 3, 2]]]),
        np.concatenate([truth.classes, truth.classes]),
        np.concatenate([truth.image, truth.image + images]),
        np.concatenate([truth.sizes, truth.sizes[:, ::-1]]),
    )


def detections(draft: Draft) -> Choice | None:
    """Keep enough detections for the image with the most objects; None if Detectron2's 100 are enough."""
    if draft.facts.most <= draft.settled["TEST.DETECTIONS_PER_IMAGE"]:
        return None
    most = 100 * math.ceil(draft.facts.most * OBJECTS_PER_DETECTION / 100)
    return Choice(
        "detections per image",
        {"TEST.DETECTIONS_PER_IMAGE": most},
        f"there are up to {draft.facts.most} objects in an image",
        "AP counts the best 100 as well, as COCO does",
    )


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
