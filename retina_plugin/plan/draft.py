"""A plan that is being made: what is known, what is settled, and what a rule may choose."""

import math
import statistics
from dataclasses import dataclass, field, replace
from typing import Any

from retina_plugin.plan.budget import Budget, Speed
from retina_plugin.plan.fingerprint import Fingerprint


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
        last_images: images that are evaluated at the end, those of the test split included.
    """

    facts: Fingerprint
    records: list[dict]
    budget: Budget
    settled: dict[str, Any]
    given: frozenset[str] = frozenset()
    speed: Speed | None = None
    test_images: int = 0
    last_images: int = 0
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
    def training_sides(self) -> tuple[int, int]:
        """Return the shorter side of a training image, or tile, of the middle size, and the limit of the longer one.

        In pixels; 0 as the shorter side stands for images as they are.
        """
        return round(statistics.median(self.settled["INPUT.MIN_SIZE_TRAIN"])), self.settled["INPUT.MAX_SIZE_TRAIN"]

    @property
    def input_size(self) -> tuple[int, int]:
        """Return the (height, width) of the network input of a typical training image, or of a tile, pixels."""
        return self._resized(*self.training_sides)

    @property
    def test_pixels(self) -> float:
        """Return the number of pixels of an image, or of a tile, in evaluation in relation to those in training."""
        tested = self._resized(self.settled["INPUT.MIN_SIZE_TEST"], self.settled["INPUT.MAX_SIZE_TEST"])
        return math.prod(tested) / math.prod(self.input_size)

    def _resized(self, shorter: int, longest: int) -> tuple[int, int]:
        """Return the (height, width) of a typical image, or of a tile, with these sides, pixels."""
        if tile := self.settled["TEST.TILES.SIZE"]:
            return (shorter or tile,) * 2
        height, width = self.facts.height, self.facts.width
        if not shorter:  # not resized
            return height, width
        zoom = min(shorter / min(height, width), longest / max(height, width))
        return max(1, round(height * zoom)), max(1, round(width * zoom))

    @property
    def zoom(self) -> float:
        """Return the size of an object in the network input of training in relation to the image."""
        if tile := self.settled["TEST.TILES.SIZE"]:
            return self.input_size[0] / tile
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
