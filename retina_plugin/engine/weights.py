"""Weights from elsewhere: reading them without running code, and giving them the plugin's names."""

import pickle
import re

import numpy as np
import torch
from torch import Tensor, nn

from retina_plugin.engine.torchvision_weights import adopt_classifier, adopt_detector, from_torchvision, is_detector

__all__ = ["adopt_names", "from_timm", "from_torchvision", "read_pickle"]


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


def adopt_names(state: dict[str, Tensor], model: nn.Module, file: str = "") -> dict[str, Tensor]:
    """Give the weights of another library the names of ``model``; the plugin's and detectron2's pass unchanged.

    Args:
        state: tensors by name, with the shapes of the same layers of ``model``, such as (C, Cin, 3, 3).
        model: the detector.
        file: where the weights come from; one file of torchvision is treated differently.

    Raises:
        ValueError: weights of torchvision or timm do not fit the model; with the keys to set, where there are such.
    """
    if any(name.startswith(("backbone.bottom_up.", "module.backbone.bottom_up.")) for name in state):
        return state
    if state and all(name.startswith("module.") for name in state):  # saved from DistributedDataParallel
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    bottom_up = getattr(model.backbone, "bottom_up", None)
    if is_detector(state):
        return adopt_detector(state, model, file)
    if hasattr(bottom_up, "net"):
        return from_timm(state, bottom_up.net)
    if "layer1.0.conv1.weight" in state:
        return adopt_classifier(state, model)
    return state
