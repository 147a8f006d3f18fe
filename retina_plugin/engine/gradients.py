"""Parameters that no loss depends on, which training on several processes would stumble over."""

import torch
from torch import nn

from detectron2.structures import Boxes, Instances

SIDE = 128
"""Pixels of the image that is tried."""


def parameters_without_gradient(model: nn.Module) -> list[str]:
    """Names of the trained parameters that get no gradient from a step on one image with one box.

    Weights, buffers, gradients and the state of the random numbers are left as they were.

    Args:
        model: maps a list of Detectron2's dataset dicts to losses; in training mode.
    """
    inputs = Instances(
        (SIDE, SIDE), gt_boxes=Boxes(torch.tensor([[20.0, 20.0, 100.0, 90.0]])), gt_classes=torch.tensor([0])
    )
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        losses = model(
            [{"image": torch.full((len(model.pixel_mean), SIDE, SIDE), 127, dtype=torch.uint8), "instances": inputs}]
        )
        sum(losses.values()).backward()
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad and parameter.grad is None]
    model.zero_grad(set_to_none=True)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    return names
