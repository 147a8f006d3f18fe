"""Rules about the training: sampling, batch, epochs and evaluations.

docs/plan.md has the measurement behind every rule and constant.
"""

import math
from typing import Any

from retina_plugin.plan.budget import EVALUATIONS_SHARE, START_SECONDS
from retina_plugin.plan.draft import Choice, Draft

IMAGES_BY_DEFAULT = 5000
"""Training images, repeated ones included, if there is no budget."""

FEWEST_EPOCHS, MOST_EPOCHS = 12, 150
"""Bounds of the epochs if there is no budget; the most also with one: a model that has seen an image that often learns
nothing more from it."""

FEWEST_STEPS = 20
"""Steps below which a training is refused."""

WHOLE_EPOCHS = 6
"""Epochs below which a training is measured in iterations."""

MOST_EVALUATIONS = 8

RARE = 0.3
"""A class is rare if it occurs in a smaller share of the images than this; its images are repeated."""

MOST_EMPTY = 0.5
"""Share of the training images that may be empty."""


def sampling(draft: Draft) -> Choice | None:
    """Show images with rare classes more often."""
    facts = draft.facts
    with_objects = max(1, round(facts.images * (1 - facts.empty)))
    rare = [name for name, count in facts.images_with.items() if count < RARE * with_objects]
    if not rare or len(facts.classes) == len(rare):
        return None
    return Choice(
        "sampling",
        {"DATALOADER.SAMPLER_TRAIN": "RepeatFactorTrainingSampler", "DATALOADER.REPEAT_THRESHOLD": RARE},
        f"{', '.join(rare[:3])}{' and others' if len(rare) > 3 else ''} in less than {100 * RARE:.0f} % of the images",
        "frequent classes are seen less often",
    )


def empty_images(draft: Draft) -> Choice | None:
    """Leave out some of the images without objects if they are the majority."""
    share = draft.facts.empty
    if share <= MOST_EMPTY or draft.settled["DATALOADER.FILTER_EMPTY_ANNOTATIONS"]:
        return None
    kept = round((1 - share) / share * MOST_EMPTY / (1 - MOST_EMPTY), 3)
    return Choice(
        "empty images",
        {"DATALOADER.EMPTY_IMAGES": kept},
        f"{100 * share:.0f} % of the images have no object",
        f"{100 * (1 - kept):.0f} % of them are not trained on",
    )


def memory(draft: Draft) -> Choice | None:
    """Split batches that do not fit into the memory."""
    if draft.speed is None or draft.budget.memory is None or draft.speed.memory <= draft.budget.memory:
        return None
    batch = draft.settled["SOLVER.IMS_PER_BATCH"]
    parts = next(
        (n for n in range(2, batch + 1) if not batch % n and draft.speed.memory / n <= draft.budget.memory), batch
    )
    return Choice(
        "batch",
        {"SOLVER.ACCUMULATE": parts},
        f"a step with {batch} images takes {draft.speed.memory / 2**30:.1f} GiB, and {draft.budget.memory / 2**30:.1f} "
        "GiB may be used",
        f"{parts} smaller steps for each",
    )


def epochs(draft: Draft) -> Choice:
    """Choose the length of the training from the budget; if the user gave the epochs, the warm-up that fits them."""
    one, given = draft.images_per_epoch, "SOLVER.EPOCHS" in draft.given
    most = MOST_EPOCHS * draft.views  # an epoch is one tile of each image
    if given:
        length, why = float(draft.settled["SOLVER.EPOCHS"]), "for the epochs that were given"
    elif draft.budget.minutes and draft.speed:
        length = draft.speed.images_in(draft.budget.minutes, evaluated=draft.last_images * draft.views) / one
        why = f"{60 * draft.budget.minutes:.0f} s at {1 / draft.speed.step:.1f} images/s; {one:.0f} images"
    else:
        length = min(max(IMAGES_BY_DEFAULT / one, FEWEST_EPOCHS), most)
        why = f"{IMAGES_BY_DEFAULT} images, but {FEWEST_EPOCHS} to {most} epochs; {one:.0f} images"
    cost = ""
    if length > most and not given:
        length, cost = float(most), f"more than {most} epochs teach little, so it ends early"
    length = float(math.floor(length)) if length >= WHOLE_EPOCHS else length
    if draft.speed:
        seconds = START_SECONDS + length * one * draft.speed.step / (1 - EVALUATIONS_SHARE)
        minutes = (seconds + draft.last_images * draft.views * draft.speed.test) / 60
        cost = f"about {minutes:.1f} minutes here{'; ' if cost else ''}{cost}"
    return Choice("epochs", _length(draft, length, in_epochs=given), why, cost)


def _length(draft: Draft, length: float, *, in_epochs: bool) -> dict[str, int]:
    """Return the keys for a training of so many epochs; in iterations if they are few and not given.

    Iterations are those of SOLVER.REFERENCE_BATCH_SIZE, from which they are scaled to the batch.
    """
    if length >= WHOLE_EPOCHS or in_epochs:
        return {
            "SOLVER.EPOCHS": int(length),
            "SOLVER.WARMUP_EPOCHS": max(1, round(length / 8)),
            "SOLVER.FREEZE_EPOCHS": 1 if length >= 2 * WHOLE_EPOCHS else 0,
        }
    reference = draft.settled["SOLVER.REFERENCE_BATCH_SIZE"] or draft.settled["SOLVER.IMS_PER_BATCH"]
    steps = int(length * draft.images_per_epoch / reference)
    return {
        "SOLVER.EPOCHS": 0,
        "SOLVER.MAX_ITER": steps,
        "SOLVER.WARMUP_ITERS": max(1, steps // 8),
        "SOLVER.FREEZE_ITERS": 0,
        "SOLVER.CHECKPOINT_PERIOD": max(1, steps // 4),
    }


def _epochs_of(draft: Draft) -> float:
    """Return the length of the training that is settled, in epochs."""
    if length := draft.settled["SOLVER.EPOCHS"]:
        return float(length)
    reference = draft.settled["SOLVER.REFERENCE_BATCH_SIZE"] or draft.settled["SOLVER.IMS_PER_BATCH"]
    return draft.settled["SOLVER.MAX_ITER"] * reference / draft.images_per_epoch


def evaluations(draft: Draft) -> Choice:
    """Choose how often to evaluate, so that it takes at most ``EVALUATIONS_SHARE`` of the time."""
    length, tested = _epochs_of(draft), draft.test_images * draft.views
    cost_of_one = tested * (draft.speed.test / draft.speed.train if draft.speed else 1 / 3)
    if draft.settled["TEST.VALIDATION_LOSS"]:
        cost_of_one += draft.test_images / 3
    most = max(1, int(EVALUATIONS_SHARE * length * draft.images_per_epoch / max(cost_of_one, 1e-9)))
    settings: dict[str, Any] = {"TEST.EVAL_EPOCHS": math.ceil(length / min(most, MOST_EVALUATIONS))}
    if most < 2 or not draft.settled["SOLVER.EPOCHS"]:
        settings |= {"TEST.EVAL_EPOCHS": 0, "TEST.EVAL_PERIOD": 0, "TEST.EARLY_STOP_PATIENCE": 0}
    return Choice(
        "evaluation",
        settings,
        f"evaluating {tested} images or tiles takes the time of {cost_of_one:.0f} training images",
        "" if settings["TEST.EVAL_EPOCHS"] else "only at the end, so there is no early stop",
    )
