"""Compilation of parts of the detector with ``torch.compile``."""

import logging
from collections.abc import Sequence

from torch import nn

logger = logging.getLogger(__name__)

COMPILED_PARTS = ("backbone", "head", "cls_loss")
"""Parts that MODEL.COMPILE may name."""

COMPILE_OPTIONS = {"force_layout_optimization": True}
"""Channels-last convolutions, as in the whole model; otherwise their gradients are recompiled for every image size."""


def compile_parts(model: nn.Module, parts: Sequence[str]) -> None:
    """Compile some parts of a detector in place, for images of any size.

    A part that is neither a module nor has ``compile()`` is left as it is, with a warning.

    Args:
        model: detector whose attributes are the parts.
        parts: names from ``COMPILED_PARTS``.

    Raises:
        ValueError: if a name is not in ``COMPILED_PARTS``.
    """
    if unknown := set(parts) - set(COMPILED_PARTS):
        raise ValueError(f"MODEL.COMPILE may hold {', '.join(COMPILED_PARTS)}; got {sorted(unknown)}")
    for name in parts:
        part = getattr(model, name)
        if isinstance(part, nn.Module):
            part.compile(dynamic=True, options=COMPILE_OPTIONS)
        elif hasattr(part, "compile"):
            part.compile()
        else:
            logger.warning(
                "MODEL.COMPILE names %s, but %s has no compile() method: it runs uncompiled", name, type(part).__name__
            )
