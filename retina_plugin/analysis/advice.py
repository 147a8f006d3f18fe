"""Advice drawn from the numbers of an analysis: each sentence has a rule, and each rule a test."""

import math
from collections.abc import Sequence

from retina_plugin.analysis.diagnosis import Diagnosis

COSTLY = 2.0
"""AP50 that a kind of error must cost before it is worth advice."""

FEW = 20
"""Objects of a class below which its AP is mostly chance."""

SMALL_PIXELS = 16.0
"""Side in the network input below which objects are hard to detect: two cells of P3."""

RISING = 0.02
"""Relative gain of AP in the last evaluation from which more training is likely to help."""

OVERFITTED = 1.1
"""Ratio of the last validation loss to the lowest one from which a training is overfitting."""

ON_ERRORS = {
    "Cls": "Classes are confused more than anything else costs: look at the confusion matrix, and whether the labels "
    "of these classes are consistent (`retina data check`).",
    "Loc": "Boxes are found but not tight enough: a larger input (INPUT.MIN_SIZE_TRAIN, INPUT.MIN_SIZE_TEST), anchors "
    "that fit (`retina data anchors`) or MODEL.RETINANET.BBOX_REG_LOSS_TYPE giou may help.",
    "Both": "Wrong class and wrong box at once cost most: train longer, or with more images.",
    "Dupe": "Objects are detected several times: lower MODEL.RETINANET.NMS_THRESH_TEST, or set "
    "MODEL.RETINANET.CLASS_AGNOSTIC_NMS if one object is detected as several classes.",
    "Bkg": "Background is taken for objects: add images without objects that look like these places, and check that "
    "no object lacks its label (`retina data check`).",
    "Miss": "Objects are not detected at all: train longer, raise the input size if they are small, and look whether "
    "anchors fit them (`retina data anchors`).",
}


def advise(found: Diagnosis, *, metrics: Sequence[dict] = ()) -> list[str]:
    """Return advice as sentences, the most important first.

    Args:
        found: the analysis.
        metrics: lines of ``metrics.json`` of the run.
    """
    advice = []
    kind, (_, cost) = max(found.errors.items(), key=lambda item: item[1][1])
    if cost >= COSTLY:
        advice.append(ON_ERRORS[kind])
    if text := _small_objects(found):
        advice.append(text)
    advice += _training(metrics)
    few = [x.name for x in found.classes if 0 < x.objects < FEW]
    if few:
        names = ", ".join(few[:5]) + (f" and {len(few) - 5} more" if len(few) > 5 else "")
        advice.append(f"With fewer than {FEW} objects in these images, the AP of {names} is mostly chance.")
    if none := [x.name for x in found.classes if not x.objects]:
        advice.append(f"These images have no object of {', '.join(none[:5])}: nothing is known about them.")
    return advice


def _small_objects(found: Diagnosis) -> str:
    """Return advice if the smallest third of the objects is found less often and tiny in the network input."""
    sizes = [x for x in found.slices if x.by.startswith("size")]
    shorter = found.detections.cfg.get("INPUT", {}).get("MIN_SIZE_TEST")
    images = found.detections.coco["images"]
    if len(sizes) < 2 or not shorter or not images:
        return ""
    scale = sum(shorter / min(x["height"], x["width"]) for x in images) / len(images)
    side = float(sizes[0].name.split(" to ")[-1]) * scale
    if side >= SMALL_PIXELS or sizes[0].recall > 0.8 * sizes[-1].recall:
        return ""
    return (
        f"The smallest third of the objects is at most {side:.0f} px wide in the network input, and only "
        f"{100 * sizes[0].recall:.0f} % of them are found ({100 * sizes[-1].recall:.0f} % of the largest): raise "
        "INPUT.MIN_SIZE_TRAIN and INPUT.MIN_SIZE_TEST, or detect in tiles (TEST.TILES.SIZE)."
    )


def _training(metrics: Sequence[dict]) -> list[str]:
    """Return advice on the length of the training, from its evaluations."""
    advice = []
    aps = [x["bbox/AP"] for x in metrics if isinstance(x.get("bbox/AP"), int | float) and math.isfinite(x["bbox/AP"])]
    if len(aps) >= 3 and aps[-1] == max(aps) and aps[-1] > (1 + RISING) * max(aps[:-1]):
        advice.append(f"AP still rose in the last evaluation ({max(aps[:-1]):.1f} to {aps[-1]:.1f}): train longer.")
    key = "validation/total_loss"
    losses = [x[key] for x in metrics if isinstance(x.get(key), int | float) and math.isfinite(x[key])]
    if len(losses) >= 3 and losses[-1] > OVERFITTED * min(losses):
        advice.append(
            f"The validation loss rose from {min(losses):.2f} to {losses[-1]:.2f}: the training overfits; more images, "
            "stronger augmentation (INPUT.COLOR_JITTER, INPUT.MOSAIC) or fewer epochs help. model_best.pth is not "
            "affected."
        )
    return advice
