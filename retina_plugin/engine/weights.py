"""Weights from elsewhere: reading them without running code, and giving them the plugin's names."""

import pickle
import re

import numpy as np
import torch
from torch import Tensor, nn


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles dicts of numpy arrays, and nothing that could run code."""

    ALLOWED = {
        ("collections", "OrderedDict"): dict,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): lambda text, encoding: text.encode(encoding),
    }

    def find_class(self, module: str, name: str) -> object:
        """What an opcode of the file may call."""
        if (module, name) in self.ALLOWED:
            return self.ALLOWED[module, name]
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name in ("_reconstruct", "scalar"):
            return getattr(np._core.multiarray, name)
        raise pickle.UnpicklingError(f"a weights file may hold arrays only, but this one asks for {module}.{name}")


def read_pickle(file: str) -> dict:
    """Read a Detectron or Detectron2 ``.pkl`` of arrays without running code.

    Raises:
        pickle.UnpicklingError: it holds something else than arrays, numbers and names.
    """
    with open(file, "rb") as stream:
        return _ArrayUnpickler(stream, encoding="latin1").load()


_TORCHVISION_BACKBONE = [
    (r"^layer(\d)\.", lambda m: f"res{int(m[1]) + 1}."),
    (r"^(conv1|bn1)\.", r"stem.\1."),
    (r"\bbn(\d)\.", r"conv\1.norm."),
    (r"downsample\.0\.", r"shortcut."),
    (r"downsample\.1\.", r"shortcut.norm."),
]
_TORCHVISION_DETECTOR = [
    (r"^backbone\.fpn\.inner_blocks\.(\d)\.0\.", lambda m: f"backbone.fpn_lateral{int(m[1]) + 3}."),
    (r"^backbone\.fpn\.layer_blocks\.(\d)\.0\.", lambda m: f"backbone.fpn_output{int(m[1]) + 3}."),
    (r"^backbone\.fpn\.extra_blocks\.", "backbone.top_block."),
    (r"^head\.classification_head\.conv\.(\d)\.0\.", lambda m: f"head.cls_subnet.{2 * int(m[1])}."),
    (r"^head\.regression_head\.conv\.(\d)\.0\.", lambda m: f"head.bbox_subnet.{2 * int(m[1])}."),
    (r"^head\.classification_head\.cls_logits\.", "head.cls_score."),
    (r"^head\.regression_head\.bbox_reg\.", "head.bbox_pred."),
]


def _rename(name: str, rules: list) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def from_torchvision(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename a torchvision ResNet classifier, or its ``retinanet_resnet50_fpn``, to the plugin's names.

    The classifier's last layer and BatchNorm's batch counters are left out.

    Example:
        >>> list(from_torchvision({"layer1.0.bn2.weight": torch.ones(1), "fc.bias": torch.ones(1)}))
        ['backbone.bottom_up.res2.0.conv2.norm.weight']
    """
    renamed = {}
    for name, tensor in state.items():
        body = name.removeprefix("backbone.body.")
        if name.endswith("num_batches_tracked") or name.startswith("fc."):
            continue
        if body != name or re.match(r"(layer\d|conv1|bn1)\.", name):
            renamed["backbone.bottom_up." + _rename(body, _TORCHVISION_BACKBONE)] = tensor
        else:
            renamed[_rename(name, _TORCHVISION_DETECTOR)] = tensor
    return renamed


def from_timm(state: dict[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """Name the weights of a whole classifier after a network of timm or torchvision without its last layers.

    Names are taken as they are where they are the network's; otherwise tensors are matched in order, which
    holds for the EfficientNet-Lite files that carry other names for the same network.

    Args:
        state: of the classifier, tensors of any shape, such as (C, Cin, 3, 3), by name.
        net: of ``TimmBackbone`` or ``TorchvisionBackbone``, the target.

    Raises:
        ValueError: the tensors do not fit.
    """
    target = net.state_dict()
    if not set(target) <= set(state):
        shapes = [tuple(tensor.shape) for tensor in list(state.values())[: len(target)]]
        if shapes != [tuple(tensor.shape) for tensor in target.values()]:
            raise ValueError("the weights fit the network neither by name nor by order and shape")
        state = dict(zip(target, state.values()))
    return {f"backbone.bottom_up.net.{name}": state[name] for name in target}


def adopt_names(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Give the weights of another library the names of ``model``; the plugin's and detectron2's pass unchanged.

    Args:
        state: tensors by name, with the shapes of the same layers of ``model``, such as (C, Cin, 3, 3).
        model: the detector.
    """
    if any(name.startswith(("backbone.bottom_up.", "module.backbone.bottom_up.")) for name in state):
        return state
    bottom_up = getattr(model.backbone, "bottom_up", None)
    if hasattr(bottom_up, "net"):
        return from_timm(state, bottom_up.net)
    if "layer1.0.conv1.weight" in state or "head.classification_head.cls_logits.weight" in state:
        return from_torchvision(state)
    return state
