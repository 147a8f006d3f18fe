"""Weights of other libraries: read them without running code, and give them the plugin's names."""

import importlib
import pickle
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from retina_plugin.engine.torchvision_names import from_torchvision, is_detector
from retina_plugin.engine.torchvision_weights import adopt_classifier, adopt_detector

__all__ = ["adopt_names", "from_timm", "from_torchvision", "read_pickle"]


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles dicts of numpy arrays; refuses everything that could run code."""

    ALLOWED: ClassVar[dict[tuple[str, str], object]] = {
        ("collections", "OrderedDict"): dict,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): lambda text, encoding: text.encode(encoding),
    }

    def find_class(self, module: str, name: str) -> object:
        """Return the object that the file asks for, if it is on the list of harmless ones."""
        if (module, name) in self.ALLOWED:
            return self.ALLOWED[module, name]
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name in ("_reconstruct", "scalar"):
            core = "numpy._core" if hasattr(np, "_core") else "numpy.core"  # the latter before numpy 2
            return getattr(importlib.import_module(f"{core}.multiarray"), name)
        raise pickle.UnpicklingError(f"a weights file may only hold arrays, but this one asks for {module}.{name}")


def read_pickle(file: str) -> dict:
    """Read a Detectron or Detectron2 ``.pkl`` of arrays without running code.

    Raises:
        pickle.UnpicklingError: it holds anything other than arrays, numbers and names.
    """
    with open(file, "rb") as stream:
        return _ArrayUnpickler(stream, encoding="latin1").load()


def from_timm(state: dict[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """Rename the weights of a classifier of timm or torchvision for a backbone made from it.

    If all names of the backbone are in the file, they are used. Otherwise tensors are matched in order, which is right
    for the EfficientNet-Lite files with different names for the same network.

    Args:
        state: tensors of the classifier by name, of any shape, such as (C, Cin, 3, 3).
        net: the network in a ``TimmBackbone`` or ``TorchvisionBackbone``, without the classifier's last layers.

    Returns:
        Tensors of the backbone by the names of the detector, of the shapes in ``state``.

    Raises:
        ValueError: the tensors fit neither by name nor in order.
    """
    target = net.state_dict()
    if not set(target) <= set(state):
        shapes = [tuple(tensor.shape) for tensor in list(state.values())[: len(target)]]
        if shapes != [tuple(tensor.shape) for tensor in target.values()]:
            raise ValueError("the weights fit the network neither by name nor by order and shape")
        state = dict(zip(target, state.values(), strict=False))  # the classifier has more layers
    return {f"backbone.bottom_up.net.{name}": state[name] for name in target}


def adopt_names(state: dict[str, Tensor], model: Any, file: str = "") -> dict[str, Tensor]:
    """Give the weights of another library the names of ``model``; those of the plugin and Detectron2 stay unchanged.

    Args:
        state: tensors by name, with the shapes of the same layers of ``model``, such as (C, Cin, 3, 3).
        model: the detector.
        file: path or URL of the weights; one file of torchvision is treated differently.

    Returns:
        Tensors by the names of ``model``.

    Raises:
        ValueError: weights of torchvision or timm do not fit the model; the message lists the keys to set, if any.
    """
    if any(name.startswith(("backbone.bottom_up.", "module.backbone.bottom_up.")) for name in state):
        return state
    if state and all(name.startswith("module.") for name in state):  # saved from DistributedDataParallel
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    bottom_up = getattr(model.backbone, "bottom_up", None)
    if is_detector(state):
        return adopt_detector(state, model, file)
    if bottom_up is not None and hasattr(bottom_up, "net"):
        return from_timm(state, bottom_up.net)
    if "layer1.0.conv1.weight" in state:
        return adopt_classifier(state, model)
    return state
