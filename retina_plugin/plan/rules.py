"""The rules by which a training is planned, in their order. Each looks at a draft and chooses a few keys."""

from collections.abc import Callable
from typing import NamedTuple

from retina_plugin.plan.draft import Choice, Draft
from retina_plugin.plan.input_rules import affordable, mirroring, resolution
from retina_plugin.plan.model_rules import anchors, anchors_again, detections, losses, suppression
from retina_plugin.plan.training_rules import empty_images, epochs, evaluations, memory, sampling


class Rule(NamedTuple):
    """A rule and its subject.

    Args:
        choose: returns what it chooses, or nothing.
        subject: beginnings of the keys that it is about. If the user has set one of them, the subject is the user's,
            and the rule is not asked: half of its keys would contradict the others.
    """

    choose: Callable[[Draft], Choice | list[Choice] | None]
    subject: tuple[str, ...]

    def is_open(self, draft: Draft) -> bool:
        """Return whether the user has left the subject to the plan."""
        return not any(key.startswith(self.subject) for key in draft.given)


SIZE = ("INPUT.MIN_SIZE_", "INPUT.MAX_SIZE_", "INPUT.TILES.", "TEST.TILES.", "INPUT.CROP.", "INPUT.MAPPER",
        "INPUT.SCALE_JITTER")  # fmt: skip

ANCHORS = ("MODEL.ANCHOR_GENERATOR.", "MODEL.RETINANET.LEVELS", "MODEL.WEIGHTS")

LOSSES = ("MODEL.RETINANET.HEAD_NAME", "MODEL.RETINANET.BBOX_REG_", "MODEL.RETINANET.CLS_LOSS", "MODEL.CLS_LOSS.",
          "MODEL.RETINANET.SMOOTH_L1_LOSS_BETA", "MODEL.WEIGHTS")  # fmt: skip

RULES = (
    Rule(resolution, SIZE),
    Rule(mirroring, ("INPUT.RANDOM_FLIP", "INPUT.ROTATE_90", "INPUT.MAPPER")),
    Rule(anchors, ANCHORS),
    Rule(losses, LOSSES),
    Rule(detections, ("TEST.DETECTIONS_PER_IMAGE",)),
    Rule(suppression, ("MODEL.RETINANET.SOFT_NMS", "MODEL.RETINANET.NMS_THRESH_TEST")),
    Rule(sampling, ("DATALOADER.SAMPLER_TRAIN", "DATALOADER.REPEAT_THRESHOLD")),
    Rule(empty_images, ("DATALOADER.EMPTY_IMAGES", "DATALOADER.FILTER_EMPTY_ANNOTATIONS")),
)
"""Rules that are asked before the speed is measured. Weights that the user gives may have learned other anchors,
and the deltas of boxes."""

AFTER_MEASURING = (
    Rule(affordable, SIZE),
    Rule(anchors_again, ANCHORS),
    Rule(memory, ("SOLVER.ACCUMULATE",)),
    Rule(epochs, ("SOLVER.MAX_ITER", "SOLVER.STEPS", "SOLVER.WARMUP_", "SOLVER.FREEZE_")),
    Rule(evaluations, ("TEST.EVAL_", "TEST.EARLY_STOP_PATIENCE", "SOLVER.MAX_ITER", "SOLVER.CHECKPOINT_PERIOD")),
)
"""Rules that need the speed, if there is a budget of time or memory."""
