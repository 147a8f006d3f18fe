"""Checkpoints that explain themselves, and are read as data."""

import contextlib
import logging
import pickle
from pathlib import Path

import torch

import detectron2
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

import retina_plugin
from retina_plugin.config import INFO_KEY, dump_config
from retina_plugin.engine.ema import WeightAverage
from retina_plugin.engine.weights import adopt_names, read_pickle

logger = logging.getLogger(__name__)


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


PARTS = {"backbone.bottom_up.": "backbone", "backbone.": "neck", "head.": "head", "": "rest"}
"""Parts of the detector by the beginning of their tensors' names."""


def loading_table(names: list[str], missing: list[str], wrong_shape: list[str], unused: list[str]) -> str:
    """What of a file went into a model, in a few lines.

    Args:
        names: of all tensors of the model.
        missing: of those that the file lacks.
        wrong_shape: of those that it has in another shape.
        unused: of those of the file that the model lacks.
    """
    lines = []
    for prefix, part in PARTS.items():
        mine = [name for name in names if name.startswith(prefix)]
        names = [name for name in names if not name.startswith(prefix)]
        absent, misfit = (sum(name in kind for name in mine) for kind in (set(missing), set(wrong_shape)))
        notes = [f"{count} {what}" for count, what in ((absent, "not in the file"), (misfit, "of another shape there")) if count]
        if mine:
            lines.append(f"{part:<9}{len(mine) - absent - misfit:>5} of {len(mine):<5} tensors loaded" + (f"; {', '.join(notes)}: they stay as initialised" if notes else ""))
    if unused:
        lines.append(f"not used from the file: {', '.join(unused[:4])}" + (f" and {len(unused) - 4} more" if len(unused) > 4 else ""))
    return "\n".join(lines)


class RetinaCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer that writes self-describing files and reads no code.

    Reads its own files, Detectron2's, torchvision's and timm's (see :mod:`retina_plugin.engine.weights`).

    Args:
        model: the detector.
        save_dir: folder of the run.
        cfg: written into every checkpoint.
        average: of the weights, which is saved in their place.
        checkpointables: further objects with ``state_dict``.
    """

    def __init__(self, model: torch.nn.Module, save_dir: str = "", *, cfg: CfgNode, average: WeightAverage | None = None, **checkpointables) -> None:
        super().__init__(model, save_dir, **checkpointables)
        self.cfg, self.average = cfg, average

    def save(self, name: str, *, tag: bool = True, **kwargs) -> None:
        """Write ``<name>.pth`` with what :func:`describe_model` says; with ``tag`` a resumed run begins from it.

        A run that is killed while it writes leaves the earlier file of that name as it was.
        """
        with self.average.applied() if self.average else contextlib.nullcontext():
            super().save(f"{name}.unfinished", **{INFO_KEY: describe_model(self.cfg, self.model)}, **kwargs)
        if self.save_dir and self.save_to_disk:
            (Path(self.save_dir) / f"{name}.unfinished.pth").replace(Path(self.save_dir) / f"{name}.pth")
            if tag:
                super().tag_last_checkpoint(f"{name}.pth")

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Done by :meth:`save`, when the file is whole."""

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

    def _log_incompatible_keys(self, incompatible) -> None:
        """A short table instead of the names of all tensors."""
        wrong = [name for name, *_ in incompatible.incorrect_shapes]
        missing = [name for name in incompatible.missing_keys if name not in wrong]
        # BatchNorm's counters of batches are not reported as missing, and are of no use.
        names = [name for name in self.model.state_dict() if not name.endswith("num_batches_tracked")]
        classes = next(((theirs[0], ours[0]) for name, theirs, ours in incompatible.incorrect_shapes if name == "head.cls_score.bias"), None)
        if classes:
            anchors = self.model.anchor_generator.num_anchors[0]
            logger.info("the file has %d classes and this model %d: head.cls_score begins anew", *(n // anchors for n in classes))
        table = loading_table(names, missing, wrong, list(incompatible.unexpected_keys))
        logger.info("what was loaded:\n%s", table)
