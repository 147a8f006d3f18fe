"""The rules by which a training is planned, in their order. Each looks at a draft and chooses a few keys."""

from collections.abc import Callable

from retina_plugin.plan.draft import Choice, Draft
from retina_plugin.plan.input_rules import affordable, anchors, detections, mirroring, resolution
from retina_plugin.plan.training_rules import empty_images, memory, sampling, schedule, suppression

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
