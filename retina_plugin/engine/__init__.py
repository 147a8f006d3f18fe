"""Training: the trainer on Detectron2's, its precision, schedule, checkpoints and start-up."""

from .checkpoint import RetinaCheckpointer
from .ending import exit_code
from .run import argument_parser, run
from .setup import set_up
from .trainer import RetinaTrainer

__all__ = ["RetinaCheckpointer", "RetinaTrainer", "argument_parser", "exit_code", "run", "set_up"]
