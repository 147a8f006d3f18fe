"""What a detector is made of, in two tables: parameters and operations of its parts, and its levels."""

import warnings

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def describe(model: nn.Module, *, size: tuple[int, int]) -> str:
    """Parameters and multiply-adds of backbone, neck and head for one image, and the anchors of every level.

    Args:
        model: ``RetinaPluginNet``, or a detector of Detectron2, of which only the whole is counted if it has other parts.
        size: (height, width) of the image, pixels.

    Returns:
        Two Markdown tables. Multiply-adds are those of convolutions and matrix products, as in publications; normalisation,
        activations and post-processing are not counted.
    """
    model = model.eval()
    channels = len(model.pixel_mean)
    image = {"image": torch.zeros(channels, *size, device=model.device), "height": size[0], "width": size[1]}
    with torch.no_grad(), warnings.catch_warnings(), FlopCounterMode(display=False) as counter:
        warnings.simplefilter("ignore")  # of Detectron2's anchors
        model([image])
    counted = {
        name.partition(".")[2]: sum(operations.values()) / 2 for name, operations in counter.get_flop_counts().items()
    }
    whole = sum(counter.get_flop_counts()["Global"].values()) / 2
    parts = {
        "backbone": getattr(model.backbone, "bottom_up", None),
        "neck": None,
        "head": getattr(model, "head", None),
        "proposals": getattr(model, "proposal_generator", None),
        "regions": getattr(model, "roi_heads", None),
    }
    names = {
        "backbone": "backbone.bottom_up",
        "head": "head",
        "proposals": "proposal_generator",
        "regions": "roi_heads",
    }
    rows = [(part, module, counted.get(names[part], 0.0)) for part, module in parts.items() if module is not None]
    if parts["backbone"] is not None:
        rest = [p for name, p in model.backbone.named_parameters() if not name.startswith("bottom_up.")]
        rows.insert(
            1, ("neck", nn.ParameterList(rest), counted.get("backbone", 0.0) - counted.get("backbone.bottom_up", 0.0))
        )
    rows.append(("whole", model, whole))
    lines = [
        f"{type(model).__name__}, one image of {size[0]} x {size[1]} px",
        "",
        "| part | parameters, M | trained, M | multiply-adds, G |",
        "|---|---|---|---|",
    ]
    for part, module, operations in rows:
        numbers = [(p.numel(), p.requires_grad) for p in module.parameters()]
        lines.append(
            f"| {part} | {sum(n for n, _ in numbers) / 1e6:.2f} | {sum(n for n, trained in numbers if trained) / 1e6:.2f} | {operations / 1e9:.2f} |"
        )
    return "\n".join([*lines, *(_levels(model, image) if hasattr(model, "predict") else []), ""])


@torch.no_grad()
def _levels(model: nn.Module, image: dict) -> list[str]:
    """The table of the levels."""
    lines = ["", "| level | stride | map | anchors a location | sizes, px | anchors |", "|---|---|---|---|---|---|"]
    batch, shapes = model.preprocess_image([image]), model.backbone.output_shape()
    levels = model.predict(batch).anchors
    for name, anchors, cell in zip(model.head_in_features, levels, model.anchor_generator.cell_anchors, strict=True):
        stride = shapes[name].stride
        height, width = (-(-side // stride) for side in batch.tensor.shape[-2:])
        sides = sorted({round(float(side)) for side in (cell[:, 2:] - cell[:, :2]).prod(dim=1).sqrt()})
        lines.append(
            f"| {name} | {stride} | {height} x {width} | {len(cell)} | {', '.join(map(str, sides))} | {len(anchors):,} |"
        )
    return [*lines, f"| all | | | | | {sum(map(len, levels)):,} |"]
