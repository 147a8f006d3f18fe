"""Checkpoints that explain themselves, and are read as data."""

import pickle

import torch

import detectron2
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

import retina_plugin
from retina_plugin.config import dump_config
from retina_plugin.engine.weights import adopt_names, read_pickle

INFO_KEY = "retina_plugin"
"""Where a checkpoint keeps what :func:`describe_model` returns."""


def describe_model(cfg: CfgNode, model: torch.nn.Module) -> dict:
    """What a checkpoint says about itself: plain strings, numbers and lists.

    Returns:
        "version" of the plugin, "detectron2" and "torch"; "class_names" (K), "config" (YAML, whole),
        "anchors": cell anchors of each level, L lists of A boxes XYXY around the origin, pixels.
    """
    names = next((c for d in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST) if (c := MetadataCatalog.get(d).get("thing_classes"))), None)
    return {
        "version": retina_plugin.__version__,
        "detectron2": detectron2.__version__,
        "torch": str(torch.__version__),  # a subclass of str otherwise, which safe loading refuses
        "class_names": list(names) if names else [str(k) for k in range(cfg.MODEL.RETINANET.NUM_CLASSES)],
        "config": dump_config(cfg),
        "anchors": [level.tolist() for level in model.anchor_generator.cell_anchors],
    }


def read_info(file: str) -> dict:
    """What a checkpoint of the plugin says about itself, see :func:`describe_model`.

    Raises:
        ValueError: it is no checkpoint of the plugin.
    """
    info = read_torch(file).get(INFO_KEY)
    if info is None:
        raise ValueError(f"{file} carries no description of the plugin: it was written by something else. Load its config with load_config and set MODEL.WEIGHTS")
    return info


def read_torch(file: str) -> dict:
    """``torch.load`` of tensors and plain values only.

    Raises:
        ValueError: the file holds objects that could run code.
    """
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f"{file} holds more than tensors and plain values, and is not read: {error}") from error


class RetinaCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer that writes self-describing files and reads no code.

    Reads its own files, Detectron2's, torchvision's and timm's (see :mod:`retina_plugin.engine.weights`).

    Args:
        model: the detector.
        save_dir: folder of the run.
        cfg: written into every checkpoint.
        checkpointables: further objects with ``state_dict``.
    """

    def __init__(self, model: torch.nn.Module, save_dir: str = "", *, cfg: CfgNode, **checkpointables) -> None:
        super().__init__(model, save_dir, **checkpointables)
        self.cfg = cfg

    def save(self, name: str, **kwargs) -> None:
        """Write ``<name>.pth`` with what :func:`describe_model` says."""
        super().save(name, **{INFO_KEY: describe_model(self.cfg, self.model)}, **kwargs)

    def _load_file(self, filename: str) -> dict:
        if filename.endswith(".pkl"):
            data = read_pickle(filename)
            if "model" in data and "__author__" in data:
                return data
            blobs = data.get("blobs", data)
            blobs = {name: array for name, array in blobs.items() if not name.endswith("_momentum")}
            return {"model": blobs, "__author__": "Caffe2", "matching_heuristics": True}
        loaded = read_torch(filename)
        if "model" not in loaded:
            loaded = {"model": loaded.get("state_dict", loaded)}
        loaded["model"] = adopt_names(loaded["model"], self.model)
        return loaded
