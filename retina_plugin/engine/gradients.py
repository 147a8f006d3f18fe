"""Find parameters that no loss depends on; training on several processes would wait for their gradients."""

import torch
from torch import nn

from detectron2.structures import Boxes, Instances

SIDE = 128
"""Height and width of the test image, in pixels."""


def parameters_without_gradient(model: nn.Module) -> list[str]:
    """Return the names of the trained parameters that get no gradient from a step on one image with one box.

    Weights, buffers and the state of the random number generators are left as they were; gradients are None afterwards.

    Args:
        model: maps a list of Detectron2's dataset dicts to a dict of losses; in training mode.
    """
    inputs = Instances(
        (SIDE, SIDE), gt_boxes=Boxes(torch.tensor([[20.0, 20.0, 100.0, 90.0]])), gt_classes=torch.tensor([0])
    )
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    devices = [model.device] if model.device.type == "cuda" else []
    channels = len(model.pixel_mean)  # type: ignore[arg-type]  # a buffer (C, 1, 1) of every meta-architecture
    image = torch.full((channels, SIDE, SIDE), 127, dtype=torch.uint8)  # (C, H, W)
    with torch.random.fork_rng(devices):
        losses = model([{"image": image, "instances": inputs}])
        sum(losses.values()).backward()
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad and parameter.grad is None]
    model.zero_grad(set_to_none=True)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    return names
