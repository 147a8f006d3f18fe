"""Names of the weights of torchvision's classifiers and RetinaNets, and the plugin's names for them."""

import re
from collections.abc import Callable, Iterable

from torch import Tensor

Rule = tuple[str, str | Callable[[re.Match], str]]
"""A pattern in a name and its replacement, as in ``re.sub``."""

_BACKBONE: list[Rule] = [
    (r"^layer(\d)\.", lambda m: f"res{int(m[1]) + 1}."),
    (r"^(conv1|bn1)\.", r"stem.\1."),
    (r"\bbn(\d)\.", r"conv\1.norm."),
    (r"downsample\.0\.", r"shortcut."),
    (r"downsample\.1\.", r"shortcut.norm."),
]
_SUBNETS = {"classification_head": "cls_subnet", "regression_head": "bbox_subnet"}


def _rename(name: str, rules: list[Rule]) -> str:
    """Return a name after all rules, one after the other."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def is_detector(names: Iterable[str]) -> bool:
    """Return whether these tensor names belong to a one-stage detector of torchvision."""
    return "head.classification_head.cls_logits.weight" in names


def _detector_rules(names: Iterable[str]) -> list[Rule]:
    """Return the rules for all but the bottom-up network, whose last map, at stride 2**5, is used by the pyramid.

    Files from before torchvision 0.13, such as the published one of ``retinanet_resnet50_fpn``, have one number less in
    the names of convolutions, and their numbers in the head also count the ReLUs.
    """
    laterals = {m[1] for name in names if (m := re.match(r"backbone\.fpn\.inner_blocks\.(\d)\.", name))}
    first_level = 6 - len(laterals) if laterals else 3
    with_norm = any(name.startswith("head.classification_head.conv.0.1.") for name in names)
    layers_per_conv = 3 if with_norm else 2  # convolution, norm, ReLU

    def level(m: re.Match) -> int:
        """Return the level of the pyramid, such as 3 for stride 2**3."""
        return int(m[1]) + first_level

    def subnet(m: re.Match) -> str:
        """Return the name of a layer in a subnet of the head, where all layers are numbered."""
        return f"head.{_SUBNETS[m[1]]}.{layers_per_conv * int(m[2]) + int(m[3])}."

    return [
        (r"^backbone\.fpn\.inner_blocks\.(\d)\.(?:0\.)?(?=weight|bias)", lambda m: f"backbone.fpn_lateral{level(m)}."),
        (r"^backbone\.fpn\.layer_blocks\.(\d)\.(?:0\.)?(?=weight|bias)", lambda m: f"backbone.fpn_output{level(m)}."),
        (r"^backbone\.fpn\.inner_blocks\.(\d)\.1\.", lambda m: f"backbone.fpn_lateral{level(m)}.norm."),
        (r"^backbone\.fpn\.layer_blocks\.(\d)\.1\.", lambda m: f"backbone.fpn_output{level(m)}.norm."),
        (r"^backbone\.fpn\.extra_blocks\.", "backbone.top_block."),
        (r"^head\.(classification_head|regression_head)\.conv\.(\d)\.(\d)\.", subnet),
        (r"^head\.(classification_head|regression_head)\.conv\.(\d)\.", lambda m: f"head.{_SUBNETS[m[1]]}.{m[2]}."),
        (r"^head\.classification_head\.cls_logits\.", "head.cls_score."),
        (r"^head\.regression_head\.bbox_reg\.", "head.bbox_pred."),
    ]


def from_torchvision(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of a torchvision ResNet classifier or RetinaNet (v1 or v2) to the plugin's names.

    The classifier's last layer and BatchNorm's batch counters are left out. The output channels of a RetinaNet stay in
    torchvision's order; :func:`adopt_detector` changes it.

    Args:
        state: tensors by name, such as (C, Cin, 3, 3).

    Returns:
        The same tensors by the plugin's names.

    Example:
        >>> import torch
        >>> list(from_torchvision({"layer1.0.bn2.weight": torch.ones(1), "fc.bias": torch.ones(1)}))
        ['backbone.bottom_up.res2.0.conv2.norm.weight']
    """
    renamed: dict[str, Tensor] = {}
    rules = _detector_rules(state)
    for name, tensor in state.items():
        body = name.removeprefix("backbone.body.")
        if name.endswith("num_batches_tracked") or name.startswith("fc."):
            continue
        if body != name or re.match(r"(layer\d|conv1|bn1)\.", name):
            renamed["backbone.bottom_up." + _rename(body, _BACKBONE)] = tensor
        else:
            renamed[_rename(name, rules)] = tensor
    return renamed
