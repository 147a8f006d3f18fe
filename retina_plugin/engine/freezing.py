"""Parameters that are not trained, by their names."""

import fnmatch
from collections.abc import Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from detectron2.engine import HookBase

from retina_plugin.config import nearest


def freeze_parameters(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Exclude parameters from training.

    Args:
        model: of which ``requires_grad`` is changed.
        patterns: of names, as in a shell: "backbone.bottom_up.*", "head.bbox_subnet.*", "*.bias".

    Returns:
        The names of those that were trained before.

    Raises:
        ValueError: a pattern fits no parameter, or nothing is left to train.
    """
    named = dict(model.named_parameters())
    frozen: list[str] = []
    for pattern in patterns:
        names = [name for name in named if fnmatch.fnmatchcase(name, pattern)]
        if not names:
            near = nearest(pattern, named)
            raise ValueError(
                f"MODEL.FREEZE {pattern!r} fits no parameter of the model"
                + (f"; there is {near}" if near else "")
                + ". A pattern is a whole name, such as backbone.bottom_up.*"
            )
        frozen += [name for name in names if named[name].requires_grad]
        for name in names:
            named[name].requires_grad_(False)
    if patterns and not any(parameter.requires_grad for parameter in named.values()):
        raise ValueError(f"MODEL.FREEZE {', '.join(patterns)} leaves nothing to train")
    return frozen


class FrozenStatistics(HookBase):
    """Keeps BatchNorm layers whose parameters are all frozen from moving their statistics, which would train them in another way.

    Args:
        model: with frozen parameters.
    """

    def __init__(self, model: nn.Module) -> None:
        self.layers = [
            module
            for module in model.modules()
            if isinstance(module, _BatchNorm)
            and list(module.parameters())
            and not any(p.requires_grad for p in module.parameters())
        ]

    def before_step(self) -> None:
        """A whole model is put into training mode again and again."""
        for layer in self.layers:
            layer.eval()
