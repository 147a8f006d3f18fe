"""Summary of a detector in two tables: parameters and operations of its parts, and its levels."""

import warnings
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

PARTS = {
    "backbone": "backbone.bottom_up",
    "head": "head",
    "proposals": "proposal_generator",
    "regions": "roi_heads",
}
"""Rows of the table of parts, and the submodules that they count."""


def describe(model: nn.Module, *, size: tuple[int, int]) -> str:
    """Count the parameters and multiply-adds of backbone, neck and head for one image, and the anchors of every level.

    Args:
        model: ``RetinaPluginNet``, or a detector of Detectron2; if that has other parts, only the whole is counted.
        size: (height, width) of the image, pixels.

    Returns:
        Two Markdown tables. Multiply-adds are those of convolutions and matrix products, as in publications;
        normalisation, activations and post-processing are not counted.
    """
    detector: Any = model.eval()  # its attributes are those of Detectron2's meta-architectures
    channels = len(detector.pixel_mean)
    image = {"image": torch.zeros(channels, *size, device=detector.device), "height": size[0], "width": size[1]}
    with torch.no_grad(), warnings.catch_warnings(), FlopCounterMode(display=False) as counter:
        warnings.simplefilter("ignore")  # of Detectron2's anchors
        detector([image])
    flops = counter.get_flop_counts()
    counted = {name.partition(".")[2]: sum(operations.values()) / 2 for name, operations in flops.items()}
    rows: list[tuple[str, nn.Module, float]] = []
    for part, name in PARTS.items():
        if (module := _part(detector, name)) is not None:
            rows.append((part, module, counted.get(name, 0.0)))
        if part == "backbone" and module is not None:
            rest = [p for key, p in detector.backbone.named_parameters() if not key.startswith("bottom_up.")]
            operations = counted.get("backbone", 0.0) - counted.get(name, 0.0)
            rows.append(("neck", nn.ParameterList(rest), operations))
    rows.append(("whole", detector, sum(flops["Global"].values()) / 2))
    lines = [
        f"{type(detector).__name__}, one image of {size[0]} x {size[1]} px",
        "",
        "| part | parameters, M | trained, M | multiply-adds, G |",
        "|---|---|---|---|",
    ]
    for part, module, operations in rows:
        parameters = sum(p.numel() for p in module.parameters())
        trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
        lines.append(f"| {part} | {parameters / 1e6:.2f} | {trained / 1e6:.2f} | {operations / 1e9:.2f} |")
    levels = _levels(detector, image) if hasattr(detector, "predict") else []
    return "\n".join([*lines, *levels, ""])


def _part(detector: nn.Module, name: str) -> nn.Module | None:
    """Return the submodule with a dotted name, None if there is none."""
    part: Any = detector
    for attribute in name.split("."):
        part = getattr(part, attribute, None)
    return part


@torch.no_grad()
def _levels(model: Any, image: dict[str, Any]) -> list[str]:
    """Return the lines of the table of the levels."""
    lines = ["", "| level | stride | map | anchors per location | sizes, px | anchors |", "|---|---|---|---|---|---|"]
    batch, shapes = model.preprocess_image([image]), model.backbone.output_shape()
    levels = model.predict(batch).anchors
    for name, anchors, cell in zip(model.head_in_features, levels, model.anchor_generator.cell_anchors, strict=True):
        stride = shapes[name].stride
        height, width = (-(-side // stride) for side in batch.tensor.shape[-2:])
        sides = sorted({round(float(side)) for side in (cell[:, 2:] - cell[:, :2]).prod(dim=1).sqrt()})
        sizes = ", ".join(map(str, sides))
        lines.append(f"| {name} | {stride} | {height} x {width} | {len(cell)} | {sizes} | {len(anchors):,} |")
    return [*lines, f"| all | | | | | {sum(map(len, levels)):,} |"]
