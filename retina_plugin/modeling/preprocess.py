"""Checks of the input images, and the normalised batch made of them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from detectron2.structures import ImageList


def check_images(batched_inputs: Sequence[dict[str, Any]], *, channels: int) -> None:
    """Check that every input has an image tensor of the expected shape.

    Args:
        batched_inputs: N dataset dicts.
        channels: C, the channels of MODEL.PIXEL_MEAN.

    Raises:
        ValueError: if an "image" is not a real tensor (C, H, W) with at least one pixel.
    """
    for i, inputs in enumerate(batched_inputs):
        image = inputs.get("image")
        if _is_image(image, channels):
            continue
        got = f"{tuple(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
        where = f" ({inputs['file_name']})" if inputs.get("file_name") else ""
        raise ValueError(
            f"'image' of input {i}{where} must be a tensor ({channels}, height, width) of values 0..255; got {got}"
        )


def _is_image(image: object, channels: int) -> bool:
    """Return whether a value is a real tensor (C, H, W) with at least one pixel."""
    return (
        isinstance(image, Tensor)
        and image.ndim == 3
        and image.shape[0] == channels
        and 0 not in image.shape
        and not image.is_complex()
    )


def batch_images(
    images: list[Tensor],
    mean: Tensor,
    std: Tensor,
    *,
    divisor: int,
    square_size: int,
    memory_format: torch.memory_format,
) -> ImageList:
    """Normalise images and copy them into one batch, padded with zeros at the right and at the bottom.

    Args:
        images: N tensors (C, Hi, Wi) of any real type, 0..255, on the device of ``mean``.
        mean: (C, 1, 1), of the pixels.
        std: (C, 1, 1), the same.
        divisor: height and width of the batch are multiples of it.
        square_size: side of the batch in pixels; 0: as the largest image and ``divisor`` require.
        memory_format: of the batch.

    Returns:
        Batch (N, C, H, W) in the type of ``mean``, with the N sizes (Hi, Wi).
    """
    sizes = [tuple(image.shape[-2:]) for image in images]
    divisor = max(1, divisor)
    height, width = (square_size or -(-max(side) // divisor) * divisor for side in zip(*sizes, strict=True))
    batch = mean.new_empty(len(images), len(mean), height, width).contiguous(memory_format=memory_format)
    for padded, image, (h, w) in zip(batch, images, sizes, strict=True):
        torch.sub(image, mean, out=padded[:, :h, :w]).div_(std)
        padded[:, h:].zero_()
        padded[:, :h, w:].zero_()
    return ImageList(batch, sizes)
