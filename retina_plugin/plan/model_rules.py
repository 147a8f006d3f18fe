"""Rules about the model: anchors, head and losses, frozen layers, and what becomes of its detections.

docs/plan.md has the measurement behind every rule and constant.
"""

import dataclasses
import math

import numpy as np

from retina_plugin.analysis.coverage import (
    AnchorLayout,
    Coverage,
    GroundTruth,
    advised,
    coverage,
    fitted_ratios,
    ground_truth,
    search,
)
from retina_plugin.plan.draft import Choice, Draft
from retina_plugin.plan.input_rules import SMALLER

MOST_COMPARED = 20_000
"""Objects that anchors are compared with; of more, those of every second, third, ... image."""

HARDLY_SEEN, AT_MOST = 16.0, 1 / 3
"""Objects that are smaller than the first in the network input, pixels, do not decide about anchors: they are hardly
recognised. Of many small ones only the smallest do not, up to the second as a share of all objects."""

OBJECTS_PER_DETECTION = 1.5
"""Detections that are kept for each object of the image with the most."""

MISSED = 0.015
"""Share of the objects that anchors of one shape may cover less than anchors of several."""


def anchors(draft: Draft) -> Choice | None:
    """Choose anchors and levels that match the objects at the input size; None if those of the base do.

    Objects that are hardly recognised do not decide: anchors for them would be missing for the others. A level below
    the base's is not added: it would take three quarters of the time. If images are turned, the objects are compared
    turned as well. Of each size there is one shape if that matches nearly as many objects.
    """
    records = draft.records[:: 1 + draft.facts.objects // MOST_COMPARED]
    if draft.settled["TEST.TILES.SIZE"]:  # every object as if its image were a tile
        truth = ground_truth(records, shortest=0, longest=0)
        truth = truth._replace(boxes=truth.boxes * draft.zoom, sizes=truth.sizes * draft.zoom)
    else:
        shortest, longest = draft.training_sides
        truth = ground_truth(records, shortest=shortest, longest=longest)
    if draft.settled["INPUT.ROTATE_90"]:
        truth = _with_turned(truth)
    truth, of_those = _recognised(truth)
    now = AnchorLayout(
        tuple(draft.settled["MODEL.RETINANET.LEVELS"]),
        draft.settled["MODEL.ANCHOR_GENERATOR.SCALE"],
        draft.settled["MODEL.ANCHOR_GENERATOR.SCALES_PER_OCTAVE"],
        tuple(draft.settled["MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS"][0]),
    )
    covered = coverage(truth, now)
    kinds = [one for one in search(truth, now) if one.layout.input == 1 and one.layout.levels[0] >= now.levels[0]]
    chosen = _of_one_shape(truth, advised(covered, kinds))
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
        f"{100 * chosen.matched:.1f} % of the objects{of_those} have an anchor at IoU 0.5; with those of the base "
        f"it is {100 * covered.matched:.1f} %",
        f"{layout.locations / now.locations:.2f} times the anchors",
    )


def anchors_again(draft: Draft) -> Choice | None:
    """Fit the anchors again if the input became smaller."""
    return anchors(draft) if any(choice.what == SMALLER for choice in draft.choices) else None


def _recognised(truth: GroundTruth) -> tuple[GroundTruth, str]:
    """Return the objects that decide about anchors, and words that say which they are if others are left out."""
    sides = np.sqrt((truth.boxes[:, 2:] - truth.boxes[:, :2]).prod(axis=1))
    if not len(sides) or sides.min() >= HARDLY_SEEN:
        return truth, ""
    least = min(HARDLY_SEEN, float(np.quantile(sides, AT_MOST)))
    kept = sides >= least
    return truth._replace(
        boxes=truth.boxes[kept], classes=truth.classes[kept], image=truth.image[kept]
    ), f" of at least {least:.0f} px"


def _of_one_shape(truth: GroundTruth, chosen: Coverage) -> Coverage:
    """Return the layout with one shape per size if it covers nearly as many objects, of each class; else ``chosen``."""
    if not len(truth.boxes) or len(chosen.layout.ratios) == 1:
        return chosen
    one = coverage(truth, dataclasses.replace(chosen.layout, ratios=fitted_ratios(truth, 1)))
    return one if max(chosen.matched - one.matched, chosen.least - one.least) <= MISSED else chosen


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


def losses(draft: Draft) -> Choice:
    """Learn each side of a box as a distribution, and the quality of a box as its score."""
    return Choice(
        "head and losses",
        {
            "MODEL.RETINANET.HEAD_NAME": "distribution",
            "MODEL.RETINANET.BBOX_REG_LOSS_TYPE": "distribution",
            "MODEL.RETINANET.CLS_LOSS": "quality_focal",
        },
        "raised AP by 4 and 5 where it was measured alone (docs/plan.md)",
        "a step takes 5 % longer, 20 % with nine anchors",
    )


def suppression(draft: Draft) -> Choice:
    """Lower the scores of overlapping detections instead of dropping them where objects overlap."""
    return Choice(
        "suppression of duplicates",
        {"MODEL.RETINANET.SOFT_NMS": "gaussian"},
        f"{100 * draft.facts.crowded:.0f} % of the objects overlap another of their class by IoU 0.3 or more; it cost "
        "nothing where none did",
        "more detections with low scores; files exported with --nms or to Detectron2 do not have it",
    )
