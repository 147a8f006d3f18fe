"""Losses of the two subnets: pure functions of tensors, chosen by name."""

from .box import BOX_LOSS_REGISTRY
from .classification import CLS_LOSS_REGISTRY

__all__ = ["BOX_LOSS_REGISTRY", "CLS_LOSS_REGISTRY"]
