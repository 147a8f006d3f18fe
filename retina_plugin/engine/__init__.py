"""Training: a subclass of Detectron2's trainer with its own precision, schedule, checkpoints and start-up."""

from retina_plugin.arguments import argument_parser

from .checkpoint import RetinaCheckpointer
from .ending import exit_code
from .launch import run
from .setup import set_up
from .trainer import RetinaTrainer

__all__ = ["RetinaCheckpointer", "RetinaTrainer", "argument_parser", "exit_code", "run", "set_up"]
