"""Training: a subclass of Detectron2's trainer with its own precision, schedule, checkpoints and start-up."""

from typing import TYPE_CHECKING

from retina_plugin.lazy import lazy_names

if TYPE_CHECKING:
    from .checkpoint import RetinaCheckpointer
    from .ending import exit_code
    from .launch import argument_parser, run
    from .setup import set_up
    from .trainer import RetinaTrainer

__all__ = [
    "RetinaCheckpointer",
    "RetinaTrainer",
    "argument_parser",
    "exit_code",
    "run",
    "set_up",
]

__getattr__ = lazy_names(
    __name__,
    {
        "RetinaCheckpointer": "checkpoint",
        "RetinaTrainer": "trainer",
        "argument_parser": "launch",
        "exit_code": "ending",
        "run": "launch",
        "set_up": "setup",
    },
)
