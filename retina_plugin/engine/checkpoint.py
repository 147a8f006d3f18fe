"""Checkpoints that describe themselves and are read without running code."""

import contextlib
import logging
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

import detectron2
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

import retina_plugin
from retina_plugin.config import INFO_KEY, dump_config
from retina_plugin.config.checkpoint_info import SAFETENSORS
from retina_plugin.engine.ema import WeightAverage
from retina_plugin.engine.ending import chain
from retina_plugin.engine.finite import non_finite
from retina_plugin.engine.parts import loading_summary, loading_table, parts_loaded
from retina_plugin.engine.resume import CHECKSUM, checksum_problem, write_checksum
from retina_plugin.engine.safetensors_file import read_safetensors
from retina_plugin.engine.weights import adopt_names, read_pickle

logger = logging.getLogger(__name__)

UNREADABLE = (RuntimeError, OSError, EOFError, UnicodeDecodeError, KeyError, IndexError, AttributeError)
"""What torch raises for files of other kinds and for truncated files of its own."""


def class_names(cfg: CfgNode) -> list[str]:
    """Return the class names of the first dataset of a config that has some, else the numbers "0", "1", ..."""
    for dataset in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        if names := MetadataCatalog.get(dataset).get("thing_classes"):
            return list(names)
    return [str(k) for k in range(cfg.MODEL.RETINANET.NUM_CLASSES)]


def describe_model(cfg: CfgNode, model: torch.nn.Module) -> dict:
    """Return the description that a checkpoint carries: plain strings, numbers and lists.

    Returns:
        "version" of the plugin, "detectron2" and "torch"; "class_names" (K), "config" (complete YAML),
        "anchors": cell anchors of each level, L lists of A boxes XYXY around the origin, in pixels. A file also has
        the facts of :class:`RetinaCheckpointer`.
    """
    return {
        "version": retina_plugin.__version__,
        "detectron2": detectron2.__version__,
        "torch": str(torch.__version__),  # otherwise a subclass of str, which safe loading refuses
        "class_names": class_names(cfg),
        "config": dump_config(cfg),
        "anchors": [level.tolist() for level in getattr(_anchor_generator(model), "cell_anchors", [])],
    }


def _anchor_generator(model: torch.nn.Module) -> torch.nn.Module | None:
    """Return the anchor generator of a RetinaNet, or of the region proposals of an R-CNN."""
    return getattr(model, "anchor_generator", None) or getattr(
        getattr(model, "proposal_generator", None), "anchor_generator", None
    )


def read_info(file: str) -> dict:
    """Read the description in a checkpoint of the plugin, see :func:`describe_model`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a checkpoint of the plugin.
    """
    loaded = read_checkpoint(file)
    info = loaded.get(INFO_KEY) if isinstance(loaded, dict) else None
    if info is None:
        raise ValueError(
            f"{file} was not written by retina_plugin, so it holds no config: load one with load_config and set "
            "MODEL.WEIGHTS to this file"
        )
    return info


def read_checkpoint(file: str) -> dict:
    """Read a file of torch or of safetensors that holds tensors and plain values only.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it was not written by torch, is damaged, or holds objects that could run code.
    """
    path = Path(file)
    if not path.exists():
        raise FileNotFoundError(f"{file} does not exist (looked in {Path.cwd()})")
    if not path.is_file():
        raise ValueError(f"{file} is a folder, not a weights file; the weights of a run are in model_final.pth")
    if problem := checksum_problem(path):
        raise ValueError(f"{file}: {problem}")
    if path.suffix == SAFETENSORS:
        return read_safetensors(path)
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not zipfile.is_zipfile(path):
            raise ValueError(f"{file} is not a weights file written by torch, or it is truncated") from error
        raise ValueError(f"{file} is not read, because it holds more than tensors and plain values: {error}") from error
    except UNREADABLE as error:
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise ValueError(f"{file} is not a weights file written by torch, or it is damaged: {reason}") from error


class RetinaCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer with self-describing files, which are read without running code.

    Reads its own files and those of Detectron2, torchvision and timm (see :mod:`retina_plugin.engine.weights`). Writes
    the sha256 of each file next to it, and compares it when the file is read.

    Args:
        model: the detector.
        save_dir: folder of the run.
        cfg: written into every checkpoint.
        average: average of the weights, which is saved instead of them.
        checkpointables: other objects with ``state_dict``, by name.

    Attributes:
        facts: further entries of the description in every checkpoint: "thresholds", see
            :func:`retina_plugin.evaluation.thresholds.thresholds_in`, and "image_size", the median (height, width) of
            the training images, pixels.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        save_dir: str = "",
        *,
        cfg: CfgNode,
        average: WeightAverage | None = None,
        **checkpointables: Any,
    ) -> None:
        super().__init__(model, save_dir, **checkpointables)
        self.checkpointables: dict[str, Any]
        self.cfg, self.average = cfg, average
        self.facts: dict[str, Any] = {}
        self._complete = False

    def save(self, name: str, *, tag: bool = True, slim: bool = False, **kwargs: Any) -> None:
        """Write ``<name>.pth`` atomically, with the description of :func:`describe_model`.

        If the run is killed meanwhile, or the disk is full, an earlier file of that name stays as it was.

        Args:
            name: of the file, without its ending.
            tag: whether a resumed run starts from this file.
            slim: write the weights and the description only, not the optimizer and other objects to resume from.
            kwargs: further values to store, such as ``iteration``.

        Raises:
            FloatingPointError: weights are not finite; nothing is written.
            OSError: the file cannot be written.
        """
        if not (self.save_dir and self.save_to_disk):
            return
        self._check_finite(name)
        folder, checkpointables = Path(self.save_dir), self.checkpointables
        unfinished, file = folder / f"{name}.unfinished.pth", folder / f"{name}.pth"
        try:
            with self.average.applied() if self.average else contextlib.nullcontext():
                self._check_finite(name)
                self.checkpointables = {} if slim else checkpointables
                info = {**describe_model(self.cfg, self.model), **self.facts}
                super().save(f"{name}.unfinished", **{INFO_KEY: info}, **kwargs)
        except BaseException as error:
            unfinished.unlink(missing_ok=True)
            # torch wraps the error of the file system in its own.
            reason = next((e for e in chain(error) if isinstance(e, OSError)), None)
            if isinstance(error, RuntimeError) and reason is not None:
                raise OSError(reason.errno, reason.strerror, str(file)) from error
            raise
        finally:
            self.checkpointables = checkpointables
        # Without a checksum a file is read unchecked; with that of the previous file it would be refused.
        file.with_name(file.name + CHECKSUM).unlink(missing_ok=True)
        unfinished.replace(file)
        write_checksum(file)
        if tag:
            unfinished_tag = folder / "last_checkpoint.tmp"
            unfinished_tag.write_text(file.name, encoding="utf-8")
            unfinished_tag.replace(folder / "last_checkpoint")

    def _check_finite(self, name: str) -> None:
        """Raise FloatingPointError if the weights are not finite."""
        if broken := non_finite(self.model.state_dict()):
            more = f" and {len(broken) - 4} more" if len(broken) > 4 else ""
            raise FloatingPointError(
                f"{name}.pth is not written: the weights hold infinities or NaN in {', '.join(broken[:4])}{more}"
            )

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Do nothing: :meth:`save` does it once the file is complete."""

    def load(self, path: str, checkpointables: list[str] | None = None, *, complete: bool = False) -> dict:
        """Load weights, and the other objects in a checkpoint.

        Args:
            path: of the file; "" loads nothing.
            checkpointables: names of the other objects to load; None: all of them.
            complete: require every tensor of backbone, neck and head in the file, because the model is used as it is.

        Returns:
            The rest of the checkpoint.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is not a weights file, holds code, is damaged, or lacks what ``complete`` requires.
        """
        if complete and not path:
            raise ValueError(
                "MODEL.WEIGHTS is empty, so an untrained model would be used; set it to a checkpoint, such as "
                "MODEL.WEIGHTS output/pets/model_best.pth"
            )
        if path:
            self._check_path(path)
        self._complete = complete
        try:
            return super().load(path, checkpointables)
        finally:
            self._complete = False
            self._parsed_url_during_load = None  # if a load fails, this is left set and makes the next one fail

    def _check_path(self, path: str) -> None:
        """Raise FileNotFoundError or ValueError unless the path is that of a file; URLs are downloaded first."""
        local = Path(self.path_manager.get_local_path(path.partition("?")[0]))
        if local.is_dir():
            raise ValueError(
                f"MODEL.WEIGHTS {path} is a folder, not a file; the weights of a run are in its model_final.pth"
            )
        if not local.is_file():
            raise FileNotFoundError(f"MODEL.WEIGHTS {path} does not exist (looked in {Path.cwd()})")

    def _load_file(self, filename: str) -> dict:
        """Read a file of any supported kind as a dict with "model": tensors by the names of this model."""
        if filename.endswith(".pkl"):
            try:
                data = read_pickle(filename)
            except (pickle.UnpicklingError, EOFError, UnicodeDecodeError, IndexError, KeyError) as error:
                reason = (str(error).splitlines() or ["it is empty"])[0]
                raise ValueError(f"{filename} cannot be read: {reason}") from error
            if not isinstance(data, dict):
                raise ValueError(f"{filename} holds a {type(data).__name__}; a weights file holds arrays by name")
            if "model" in data and "__author__" in data:
                return data
            blobs = data.get("blobs", data)
            blobs = {name: array for name, array in blobs.items() if not name.endswith("_momentum")}
            return {"model": blobs, "__author__": "Caffe2", "matching_heuristics": True}
        loaded = read_checkpoint(filename)
        if not isinstance(loaded, dict):
            raise ValueError(f"{filename} holds a {type(loaded).__name__}; a weights file holds tensors by name")
        if "model" not in loaded:
            loaded = {"model": loaded.get("state_dict", loaded)}
        model = loaded["model"] if isinstance(loaded["model"], dict) else {}
        if not any(isinstance(value, torch.Tensor) for value in model.values()):
            raise ValueError(f"{filename} holds no tensors by name")
        # Values that are not tensors, such as counters, are no weights.
        tensors = {k: v for k, v in model.items() if isinstance(k, str) and isinstance(v, torch.Tensor)}
        loaded["model"] = adopt_names(tensors, self.model, filename)
        return loaded

    def _log_incompatible_keys(self, incompatible: Any) -> None:
        """Log a short table of what was loaded, instead of the names of all tensors.

        A warning if the model is incomplete, an error if ``load`` was asked for a complete one.
        """
        wrong = [name for name, *_ in incompatible.incorrect_shapes]
        missing = [name for name in incompatible.missing_keys if name not in wrong]
        # BatchNorm's batch counters are not reported as missing, and do not matter.
        names = [name for name in self.model.state_dict() if not name.endswith("num_batches_tracked")]
        parts = parts_loaded(names, missing, wrong)
        table = loading_table(parts, list(incompatible.unexpected_keys))
        classes = self._different_classes(incompatible.incorrect_shapes)
        lacking = [part for part in parts if part.name != "rest" and part.loaded < part.total]
        if self._complete and lacking:
            why = classes or f"{', '.join(part.name for part in lacking)} would be random"
            raise ValueError(f"the weights are incomplete, so the model would be partly untrained: {why}\n{table}")
        partial = any(part.name == "backbone" or (part.loaded and part.name in ("neck", "head")) for part in lacking)
        if not any(part.loaded for part in parts if part.name != "rest"):
            logger.warning(
                "no tensor in the weights file fits this model, which starts from random weights:\n%s", table
            )
        elif partial:
            note = f"{classes}: head.cls_score is re-initialised" if classes else ""
            logger.warning(
                "the weights file is incomplete for this model; what is missing starts from random weights:\n%s",
                "\n".join(filter(None, [note, table])),
            )
        elif incompatible.unexpected_keys or any(0 < part.loaded < part.total for part in parts):
            logger.info("weights loaded:\n%s", table)
        else:
            logger.info("weights loaded: %s", loading_summary(parts))

    def _different_classes(self, incorrect_shapes: list[tuple]) -> str:
        """Return how many classes the file and the model have if these differ, else ""."""
        for name, theirs, ours in incorrect_shapes:
            if name == "head.cls_score.bias":
                num_anchors = self.model.anchor_generator.num_anchors[0]
                return f"the file has {theirs[0] // num_anchors} classes and this model {ours[0] // num_anchors}"
        return ""
