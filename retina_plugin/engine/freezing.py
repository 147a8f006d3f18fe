"""Exclude parameters from training by their names."""

import fnmatch
from collections.abc import Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from detectron2.engine import HookBase

from retina_plugin.config import nearest


def freeze_parameters(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Exclude parameters from training.

    Args:
        model: its parameters get ``requires_grad`` False.
        patterns: of whole names, with the wildcards of a shell: "backbone.bottom_up.*", "head.bbox_subnet.*", "*.bias".

    Returns:
        The names of the parameters that were trained before.

    Raises:
        ValueError: a pattern matches no parameter, or nothing is left to train.
    """
    named = dict(model.named_parameters())
    frozen: list[str] = []
    for pattern in patterns:
        names = [name for name in named if fnmatch.fnmatchcase(name, pattern)]
        if not names:
            near = nearest(pattern, named)
            there = f"; there is {near}" if near else ""
            raise ValueError(
                f"MODEL.FREEZE {pattern!r} matches no parameter of the model{there}. A pattern must match the whole "
                "name, such as backbone.bottom_up.*"
            )
        frozen += [name for name in names if named[name].requires_grad]
        for name in names:
            named[name].requires_grad_(False)
    if patterns and not any(parameter.requires_grad for parameter in named.values()):
        raise ValueError(f"MODEL.FREEZE {', '.join(patterns)} leaves nothing to train")
    return frozen


class FrozenStatistics(HookBase):
    """Keeps the statistics of BatchNorm layers fixed if all their parameters are frozen; they would still adapt.

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
        """Put these layers into evaluation mode; others put the whole model into training mode in between."""
        for layer in self.layers:
            layer.eval()
