"""The rules by which a training is planned. Each looks at the data and at what is settled, and chooses a few keys.

docs/plan.md has the measurement behind every rule and constant.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from retina_plugin.analysis.coverage import AnchorLayout, advised, coverage, ground_truth, search
from retina_plugin.plan.budget import Budget, Speed
from retina_plugin.plan.fingerprint import Fingerprint

READABLE, LEAST_READABLE = 28.0, 18.0
"""Size in the network input, pixels, that the smallest 5 % of the objects should reach, and how far it is lowered if
there is not time for ``ENOUGH_STEPS``."""

ENOUGH_STEPS = 600
"""Steps of training that are worth more than a larger input."""

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

OBJECTS_PER_DETECTION = 1.5
"""Detections that are kept for each object of the image with the most."""

ONE_SIDED, SURELY = 0.1, 0.01
"""Images are not mirrored if the asymmetry of the objects is above the first and its p below the second."""

EITHER_WAY, SEEN_OFTEN = 0.05, 200
"""Images are flipped upside down and turned if the asymmetry of the objects, seen so often, is below the first."""

IMAGES_BY_DEFAULT = 5000
"""Training images, repeated ones included, if there is no budget."""

FEWEST_EPOCHS, MOST_EPOCHS = 12, 150
"""Bounds of the epochs if there is no budget; the most also with one: a model that has seen an image that often learns
nothing more from it."""

FEWEST_STEPS = 20
"""Steps below which a training is refused."""

WHOLE_EPOCHS = 6
"""Epochs below which a training is measured in iterations."""

FEW_STEPS = 400
"""Steps below which a batch of half the size, with twice as many steps, is better."""

EVALUATIONS_SHARE = 0.08
"""Share of the time that evaluations during the training may take."""

RARE = 0.3
"""A class is rare if it occurs in a smaller share of the images than this; its images are repeated."""

MOST_EMPTY = 0.5
"""Share of the training images that may be empty."""


@dataclass(frozen=True)
class Choice:
    """What a rule chose.

    Args:
        what: the subject, such as "input size".
        settings: config keys and their values.
        why: the reason, with the facts that decided.
        cost: what it costs, or what was given up.
    """

    what: str
    settings: dict[str, Any]
    why: str
    cost: str = ""


@dataclass
class Draft:
    """A plan that is being made.

    Args:
        facts: about the data.
        records: of the training split.
        budget: what the training may cost.
        settled: value of every config key so far: the base config, the user's keys, what earlier rules chose.
        given: keys that the user set, which no rule changes.
        speed: measured at the settled input size; None if it is not needed or could not be measured.
        test_images: images that one evaluation looks at.
    """

    facts: Fingerprint
    records: list[dict]
    budget: Budget
    settled: dict[str, Any]
    given: frozenset[str] = frozenset()
    speed: Speed | None = None
    test_images: int = 0
    choices: list[Choice] = field(default_factory=list)

    def apply(self, choice: Choice) -> None:
        """Settle the keys of a choice that the user did not set; a choice without any such key is dropped."""
        settings = {key: value for key, value in choice.settings.items() if key not in self.given}
        if settings:
            self.settled |= settings
            self.choices.append(Choice(choice.what, settings, choice.why, choice.cost))

    def after(self, choice: Choice) -> "Draft":
        """Return a copy in which a choice is settled."""
        settings = {key: value for key, value in choice.settings.items() if key not in self.given}
        return replace(self, settled=self.settled | settings, choices=[*self.choices, choice])

    @property
    def input_size(self) -> tuple[int, int]:
        """Return the (height, width) of the network input of a typical image, or of a tile, pixels."""
        shorter = self.settled["INPUT.MIN_SIZE_TEST"]
        if self.settled["TEST.TILES.SIZE"]:
            return shorter, shorter
        height, width = self.facts.height, self.facts.width
        zoom = min(shorter / min(height, width), self.settled["INPUT.MAX_SIZE_TEST"] / max(height, width))
        return max(1, round(height * zoom)), max(1, round(width * zoom))

    @property
    def zoom(self) -> float:
        """Return the size of an object in the network input in relation to the image."""
        if tile := self.settled["TEST.TILES.SIZE"]:
            return self.settled["INPUT.MIN_SIZE_TEST"] / tile
        return self.input_size[0] / self.facts.height

    @property
    def views(self) -> int:
        """Return the number of parts of a typical image that an evaluation looks at."""
        tile = self.settled["TEST.TILES.SIZE"]
        if not tile:
            return 1
        step = max(1, int(tile * (1 - self.settled["TEST.TILES.OVERLAP"])))
        count = 1
        for side in (self.facts.height, self.facts.width):
            count *= 1 + max(0, math.ceil((side - tile) / step))
        return count + (count > 1 and self.settled["TEST.TILES.WHOLE"])

    @property
    def images_per_epoch(self) -> float:
        """Return the number of training images of an epoch."""
        empty = self.facts.images * self.facts.empty
        kept = 0.0 if self.settled["DATALOADER.FILTER_EMPTY_ANNOTATIONS"] else self.settled["DATALOADER.EMPTY_IMAGES"]
        return max(1.0, self.facts.images - empty + empty * kept)


def resolution(draft: Draft) -> Choice:
    """Choose the input size, or tiles, so that all but the smallest objects are large enough to be recognised."""
    facts = draft.facts
    small = facts.sides[0]
    zoom = min(READABLE / small, MOST_ENLARGED)
    wanted = zoom * min(facts.height, facts.width)
    is_large = zoom * max(facts.height, facts.width) > 4 / 3 * LARGEST_INPUT
    why = f"5 % of the objects are smaller than {small:.0f} px; {READABLE:g} px are recognised well"
    if zoom == MOST_ENLARGED:
        why = f"5 % of the objects are smaller than {small:.0f} px; enlarging more than {zoom:g} times adds no detail"
    if is_large and (tiles := _tiles(draft, zoom, why)):
        return tiles
    cost = ""
    if wanted > LARGEST_INPUT:
        cost = f"{wanted:.0f} px were wanted; objects of {facts.longest[4]:.0f} px do not fit into tiles"
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


def affordable(draft: Draft) -> list[Choice]:
    """Lower the input size if the time does not suffice for ``ENOUGH_STEPS``, and fit the anchors again."""
    facts, speed, before = draft.facts, draft.speed, draft.settled["INPUT.MIN_SIZE_TEST"]
    if not (draft.budget.minutes and speed) or draft.settled["TEST.TILES.SIZE"] or "INPUT.MIN_SIZE_TEST" in draft.given:
        return []
    least = max(SMALLEST_INPUT, GRID * round(LEAST_READABLE / facts.sides[0] * min(facts.height, facts.width) / GRID))

    def steps(shorter: int) -> float:
        """Return the steps that fit into the time; their cost is in proportion to the pixels."""
        faster = speed.times((shorter / before) ** 2)
        images = faster.images_in(draft.budget.minutes or 0, evaluated=draft.test_images)
        return images / draft.settled["SOLVER.IMS_PER_BATCH"]

    shorter = before
    while steps(shorter) < ENOUGH_STEPS and shorter - GRID >= least:
        shorter -= GRID
    if shorter == before:
        return []
    why = f"only {steps(before):.0f} steps of {before} px fit into {draft.budget.minutes:g} minutes"
    cost = f"the smallest 5 % of the objects have {_smallest(draft, shorter):.0f} px"
    size = Choice("smaller input", _sizes(draft, shorter), why, cost)
    draft.speed = speed.times((shorter / before) ** 2)
    fitted = anchors(draft.after(size))
    return [size, fitted] if fitted else [size]


def _smallest(draft: Draft, shorter: int) -> float:
    """Return the size in the network input of the smallest 5 % of the objects."""
    return draft.facts.sides[0] * shorter / min(draft.facts.height, draft.facts.width)


def _longest_aspect(draft: Draft) -> float:
    """Return the ratio of the sides of the typical image, at most 4, from which on the longer side is limited."""
    return min(4.0, max(draft.facts.height, draft.facts.width) / min(draft.facts.height, draft.facts.width))


def _tiles(draft: Draft, zoom: float, why: str) -> Choice | None:
    """Return tiles in which objects are enlarged by ``zoom``; None if many objects would not fit into one."""
    facts = draft.facts
    side = round(TILE_INPUT / zoom)
    if facts.longest[4] > side / 2:
        return None
    overlap = min(0.5, max(0.1, math.ceil(20 * facts.longest[4] / side) / 20))
    largest = max(
        max(x["bbox"][2] - x["bbox"][0], x["bbox"][3] - x["bbox"][1])
        for record in draft.records
        for x in record["annotations"]
    )
    settings = {
        "INPUT.TILES.SIZE": side,
        "TEST.TILES.SIZE": side,
        "TEST.TILES.OVERLAP": overlap,
        "TEST.TILES.WHOLE": largest > side,
        "INPUT.MIN_SIZE_TEST": TILE_INPUT,
        "INPUT.MAX_SIZE_TEST": TILE_INPUT,
        "INPUT.MIN_SIZE_TRAIN": _spread(TILE_INPUT),
    }
    why = f"{why}; a whole image would have {zoom * min(facts.height, facts.width):.0f} px"
    views = draft.after(Choice("tiles", settings, why)).views
    return Choice("tiles", settings, why, f"an image is {views} tiles to predict on")


def anchors(draft: Draft) -> Choice | None:
    """Choose anchors and levels that match the objects at the input size; None if those of the base do.

    A level below the base's is not added: it would take three quarters of the time.
    """
    shorter, longest = draft.settled["INPUT.MIN_SIZE_TEST"], draft.settled["INPUT.MAX_SIZE_TEST"]
    if draft.settled["MODEL.ANCHOR_GENERATOR.SIZES"]:
        return None
    if draft.settled["TEST.TILES.SIZE"]:  # every object as if its image were a tile
        truth = ground_truth(draft.records, shortest=0, longest=0)
        truth = truth._replace(boxes=truth.boxes * draft.zoom, sizes=truth.sizes * draft.zoom)
    else:
        truth = ground_truth(draft.records, shortest=shorter, longest=longest)
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
    if mirrored.asymmetry > ONE_SIDED and mirrored.p < SURELY:
        return Choice(
            "flips",
            {"INPUT.RANDOM_FLIP": "none"},
            f"{mirrored.objects} objects differ from their mirror images (asymmetry {mirrored.asymmetry:.2f})",
            "half as many different images",
        )
    if max(mirrored.asymmetry, upside_down.asymmetry) > EITHER_WAY or upside_down.objects < SEEN_OFTEN:
        return None
    settings = {"INPUT.RANDOM_FLIP_VERTICAL": True}
    if turned.asymmetry <= EITHER_WAY:
        settings["INPUT.ROTATE_90"] = True
    return Choice(
        "flips",
        settings,
        f"{upside_down.objects} objects look the same in a mirror, upside down and turned (asymmetry "
        f"{mirrored.asymmetry:.2f}, {upside_down.asymmetry:.2f}, {turned.asymmetry:.2f})",
    )


def suppression(draft: Draft) -> Choice | None:
    """Lower the scores of overlapping detections instead of dropping them where objects overlap."""
    if draft.settled["MODEL.RETINANET.SOFT_NMS"]:
        return None
    return Choice(
        "suppression of duplicates",
        {"MODEL.RETINANET.SOFT_NMS": "gaussian"},
        f"{100 * draft.facts.crowded:.0f} % of the objects overlap another of their class by IoU 0.3 or more; it cost "
        "nothing where none did",
        "more detections with low scores",
    )


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


def schedule(draft: Draft) -> list[Choice]:
    """Choose the epochs, the batch and when to evaluate from the budget."""
    facts, batch = draft.facts, draft.settled["SOLVER.IMS_PER_BATCH"]
    one, tested = draft.images_per_epoch, draft.test_images * draft.views
    if draft.budget.minutes and draft.speed:
        images = draft.speed.images_in(draft.budget.minutes, evaluated=tested)
        why = f"{60 * draft.budget.minutes:.0f} s at {1 / draft.speed.train:.1f} images/s"
    elif draft.budget.epochs:
        images, why = draft.budget.epochs * one, "as given"
    else:
        epochs = min(max(IMAGES_BY_DEFAULT / one, FEWEST_EPOCHS), MOST_EPOCHS)
        images, why = epochs * one, f"{IMAGES_BY_DEFAULT} images, but {FEWEST_EPOCHS} to {MOST_EPOCHS} epochs"
    epochs = images / one
    cost = ""
    if draft.budget.minutes and epochs > MOST_EPOCHS:
        cost = f"more than {MOST_EPOCHS} epochs teach little, so it ends early"
        epochs = float(MOST_EPOCHS)
    epochs = float(math.floor(epochs)) if epochs >= WHOLE_EPOCHS else epochs
    if draft.speed:
        minutes = (epochs * one * draft.speed.train * 1.1 + tested * draft.speed.test) / 60
        cost = f"about {minutes:.1f} minutes here{'; ' if cost else ''}{cost}"
    choices = [
        Choice(
            "epochs",
            _length(epochs, one, batch),
            f"{why}; {facts.images} images",
            cost,
        )
    ]
    steps = epochs * one / batch
    if steps < FEW_STEPS and batch >= 8 and draft.settled["SOLVER.ACCUMULATE"] == 1:
        choices.append(
            Choice(
                "batch",
                {"SOLVER.IMS_PER_BATCH": batch // 2},
                f"{steps:.0f} steps of {batch} images are few",
                "each step averages over fewer images",
            )
        )
    return [*choices, _evaluations(draft, epochs, one, tested)]


def _length(epochs: float, one: float, batch: int) -> dict[str, int]:
    """Return the keys for a training of so many epochs of ``one`` images; in iterations if they are few."""
    if epochs >= WHOLE_EPOCHS:
        return {
            "SOLVER.EPOCHS": int(epochs),
            "SOLVER.WARMUP_EPOCHS": max(1, round(epochs / 8)),
            "SOLVER.FREEZE_EPOCHS": 1 if epochs >= 2 * WHOLE_EPOCHS else 0,
        }
    steps = int(epochs * one / batch)
    return {
        "SOLVER.EPOCHS": 0,
        "SOLVER.MAX_ITER": steps,
        "SOLVER.WARMUP_ITERS": max(1, steps // 8),
        "SOLVER.FREEZE_ITERS": 0,
        "SOLVER.CHECKPOINT_PERIOD": max(1, steps // 4),
    }


def _evaluations(draft: Draft, epochs: float, one: float, tested: int) -> Choice:
    """Return how often to evaluate, so that it takes at most ``EVALUATIONS_SHARE`` of the time."""
    cost_of_one = tested * (draft.speed.test / draft.speed.train if draft.speed else 1 / 3)
    if draft.settled["TEST.VALIDATION_LOSS"]:
        cost_of_one += draft.test_images / 3
    most = max(1, int(EVALUATIONS_SHARE * epochs * one / max(cost_of_one, 1e-9)))
    settings: dict[str, Any] = {"TEST.EVAL_EPOCHS": math.ceil(epochs / min(most, 8))}
    if most < 2 or epochs < WHOLE_EPOCHS:
        settings |= {"TEST.EVAL_EPOCHS": 0, "TEST.EVAL_PERIOD": 0, "TEST.EARLY_STOP_PATIENCE": 0}
    return Choice(
        "evaluation",
        settings,
        f"evaluating {tested} images or tiles takes the time of {cost_of_one:.0f} training images",
        "" if settings["TEST.EVAL_EPOCHS"] else "only at the end, so there is no early stop",
    )


RULES: tuple[Callable[[Draft], Choice | list[Choice] | None], ...] = (
    resolution,
    anchors,
    detections,
    mirroring,
    suppression,
    sampling,
    empty_images,
)
"""Rules in the order in which they are asked, before the speed is measured."""

AFTER_MEASURING: tuple[Callable[[Draft], Choice | list[Choice] | None], ...] = (affordable, memory, schedule)
"""Rules that need the speed, if there is a budget of time or memory."""
