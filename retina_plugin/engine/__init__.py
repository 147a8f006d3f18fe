"""Training: the trainer on Detectron2's, its precision, schedule, checkpoints and start-up."""

from .checkpoint import RetinaCheckpointer
from .run import argument_parser, run
from .trainer import RetinaTrainer

__all__ = ["argument_parser", "RetinaCheckpointer", "RetinaTrainer", "run"]
