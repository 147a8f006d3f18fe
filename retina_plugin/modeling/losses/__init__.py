"""Losses of the two subnets: pure functions of tensors, chosen by name."""

from . import mining, quality  # noqa: F401  (importing them registers their losses)
from .box import BOX_LOSS_REGISTRY
from .classification import CLS_LOSS_REGISTRY
from .dense import ClassTargets

__all__ = ["BOX_LOSS_REGISTRY", "CLS_LOSS_REGISTRY", "ClassTargets"]
