"""Checkpoints that explain themselves, and are read as data."""

import contextlib
import logging
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch

import detectron2
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

import retina_plugin
from retina_plugin.config import INFO_KEY, dump_config
from retina_plugin.engine.ema import WeightAverage
from retina_plugin.engine.ending import chain
from retina_plugin.engine.finite import non_finite
from retina_plugin.engine.resume import CHECKSUM, checksum_problem, write_checksum
from retina_plugin.engine.weights import adopt_names, read_pickle

logger = logging.getLogger(__name__)


def class_names(cfg: CfgNode) -> list[str]:
    """Those of the first dataset of a config that has some, else the numbers 0, 1, ..."""
    names = next(
        (c for d in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST) if (c := MetadataCatalog.get(d).get("thing_classes"))),
        None,
    )
    return list(names) if names else [str(k) for k in range(cfg.MODEL.RETINANET.NUM_CLASSES)]


def describe_model(cfg: CfgNode, model: torch.nn.Module) -> dict:
    """What a checkpoint says about itself: plain strings, numbers and lists.

    Returns:
        "version" of the plugin, "detectron2" and "torch"; "class_names" (K), "config" (YAML, whole),
        "anchors": cell anchors of each level, L lists of A boxes XYXY around the origin, pixels.
    """
    return {
        "version": retina_plugin.__version__,
        "detectron2": detectron2.__version__,
        "torch": str(torch.__version__),  # a subclass of str otherwise, which safe loading refuses
        "class_names": class_names(cfg),
        "config": dump_config(cfg),
        "anchors": [level.tolist() for level in getattr(_anchor_generator(model), "cell_anchors", [])],
    }


def _anchor_generator(model: torch.nn.Module) -> torch.nn.Module | None:
    """That of a RetinaNet, or of the region proposals of an R-CNN."""
    return getattr(model, "anchor_generator", None) or getattr(
        getattr(model, "proposal_generator", None), "anchor_generator", None
    )


def read_info(file: str) -> dict:
    """What a checkpoint of the plugin says about itself, see :func:`describe_model`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no checkpoint of the plugin.
    """
    loaded = read_torch(file)
    info = loaded.get(INFO_KEY) if isinstance(loaded, dict) else None
    if info is None:
        raise ValueError(
            f"{file} carries no description of the plugin: it was written by something else. Load its config with load_config and set MODEL.WEIGHTS"
        )
    return info


def read_torch(file: str) -> dict:
    """``torch.load`` of tensors and plain values only.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no file of torch, is damaged, or holds objects that could run code.
    """
    path = Path(file)
    if not path.exists():
        raise FileNotFoundError(f"{file} does not exist (looked in {Path.cwd()})")
    if not path.is_file():
        raise ValueError(f"{file} is a folder, not a file of weights; a run's are in model_final.pth")
    if problem := checksum_problem(path):
        raise ValueError(f"{file}: {problem}")
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not zipfile.is_zipfile(path):
            raise ValueError(f"{file} is not a file of weights that torch wrote, or it is truncated") from error
        raise ValueError(f"{file} holds more than tensors and plain values, and is not read: {error}") from error
    except (
        RuntimeError,
        OSError,
        EOFError,
        UnicodeDecodeError,
        KeyError,
        IndexError,
        AttributeError,
    ) as error:  # what torch raises for other files, and for pieces of its own
        raise ValueError(
            f"{file} is not a file of weights that torch wrote, or it is damaged: {(str(error).splitlines() or ['no reason given'])[0]}"
        ) from error


PARTS = {
    "backbone.bottom_up.": "backbone",
    "backbone.": "neck",
    "head.": "head",
    "proposal_generator.": "proposals",
    "roi_heads.": "regions",
    "": "rest",
}
"""Parts of the detector by the beginning of their tensors' names."""


def part_of(name: str) -> str:
    """The part of the detector that a tensor belongs to, by its name.

    Example:
        >>> part_of("backbone.bottom_up.stem.conv1.weight"), part_of("backbone.fpn_lateral3.weight"), part_of("loss_normalizer")
        ('backbone', 'neck', 'rest')
    """
    return next(part for prefix, part in PARTS.items() if name.startswith(prefix))


@dataclass(frozen=True)
class Part:
    """How much of a part of the detector a file held: ``total`` tensors, ``absent`` from the file, ``misfit``: there in another shape."""

    name: str
    total: int
    absent: int
    misfit: int

    @property
    def loaded(self) -> int:
        """Tensors that came from the file."""
        return self.total - self.absent - self.misfit

    def line(self) -> str:
        """For the log."""
        notes = [
            f"{count} {what}"
            for count, what in ((self.absent, "not in the file"), (self.misfit, "of another shape there"))
            if count
        ]
        return f"{self.name:<9}{self.loaded:>5} of {self.total:<5} tensors loaded" + (
            f"; {', '.join(notes)}: they stay as initialised" if notes else ""
        )


def parts_loaded(names: list[str], missing: list[str], wrong_shape: list[str]) -> list[Part]:
    """What of a file went into each part of a model.

    Args:
        names: of all tensors of the model.
        missing: of those that the file lacks.
        wrong_shape: of those that it has in another shape.
    """
    parts = []
    for prefix, part in PARTS.items():
        mine = [name for name in names if name.startswith(prefix)]
        names = [name for name in names if not name.startswith(prefix)]
        absent, misfit = (sum(name in kind for name in mine) for kind in (set(missing), set(wrong_shape)))
        if mine:
            parts.append(Part(part, len(mine), absent, misfit))
    return parts


def loading_table(parts: list[Part], unused: list[str]) -> str:
    """What of a file went into a model, in a few lines.

    Args:
        parts: see :func:`parts_loaded`.
        unused: names of the file that the model lacks.
    """
    lines = [part.line() for part in parts]
    if unused:
        lines.append(
            f"not used from the file: {', '.join(unused[:4])}"
            + (f" and {len(unused) - 4} more" if len(unused) > 4 else "")
        )
    return "\n".join(lines)


class RetinaCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer that writes self-describing files and reads no code.

    Reads its own files, Detectron2's, torchvision's and timm's (see :mod:`retina_plugin.engine.weights`). Beside every
    file that it writes stands its sha256, which is looked at when the file is read.

    Args:
        model: the detector.
        save_dir: folder of the run.
        cfg: written into every checkpoint.
        average: of the weights, which is saved in their place.
        checkpointables: further objects with ``state_dict``.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        save_dir: str = "",
        *,
        cfg: CfgNode,
        average: WeightAverage | None = None,
        **checkpointables,
    ) -> None:
        super().__init__(model, save_dir, **checkpointables)
        self.cfg, self.average = cfg, average
        self._complete = False

    def save(self, name: str, *, tag: bool = True, **kwargs) -> None:
        """Write ``<name>.pth`` with what :func:`describe_model` says; with ``tag`` a resumed run begins from it.

        A run that is killed while it writes, or whose disk is full, leaves the earlier file of that name as it was.

        Raises:
            FloatingPointError: weights are not finite; nothing is written.
            OSError: the file cannot be written.
        """
        if not (self.save_dir and self.save_to_disk):
            return
        self._check_finite(name)
        folder = Path(self.save_dir)
        unfinished, file = folder / f"{name}.unfinished.pth", folder / f"{name}.pth"
        try:
            with self.average.applied() if self.average else contextlib.nullcontext():
                self._check_finite(name)
                super().save(f"{name}.unfinished", **{INFO_KEY: describe_model(self.cfg, self.model)}, **kwargs)
        except BaseException as error:
            unfinished.unlink(missing_ok=True)
            # torch wraps what the file system says in an error of its own.
            reason = next((e for e in chain(error) if isinstance(e, OSError)), None)
            if isinstance(error, RuntimeError) and reason is not None:
                raise OSError(reason.errno, reason.strerror, str(file)) from error
            raise
        # Without a checksum a file is read as it is; with the one of another file it would be refused.
        file.with_name(file.name + CHECKSUM).unlink(missing_ok=True)
        unfinished.replace(file)
        write_checksum(file)
        if tag:
            unfinished_tag = folder / "last_checkpoint.tmp"
            unfinished_tag.write_text(file.name, encoding="utf-8")
            unfinished_tag.replace(folder / "last_checkpoint")

    def _check_finite(self, name: str) -> None:
        if broken := non_finite(self.model.state_dict()):
            more = f" and {len(broken) - 4} more" if len(broken) > 4 else ""
            raise FloatingPointError(
                f"{name}.pth is not written: the weights hold infinities or NaN in {', '.join(broken[:4])}{more}"
            )

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Done by :meth:`save`, when the file is whole."""

    def load(self, path: str, checkpointables: list[str] | None = None, *, complete: bool = False) -> dict:
        """Load weights, and what else a checkpoint holds.

        Args:
            path: of the file; "" loads nothing.
            checkpointables: names of those that are loaded; None: all of them.
            complete: every tensor of backbone, neck and head has to come from the file, because the model is to be used as it is.

        Returns:
            What the checkpoint holds besides.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no file of weights, holds code, is damaged, or lacks what ``complete`` asks for.
        """
        if complete and not path:
            raise ValueError(
                "MODEL.WEIGHTS is empty: an untrained model would be used. Give a checkpoint, such as MODEL.WEIGHTS output/pets/model_best.pth"
            )
        if path:
            self._check_path(path)
        self._complete = complete
        try:
            return super().load(path, checkpointables)
        finally:
            self._complete = False
            self._parsed_url_during_load = None  # left behind by a load that failed, it would refuse the next

    def _check_path(self, path: str) -> None:
        local = Path(self.path_manager.get_local_path(path.partition("?")[0]))
        if local.is_dir():
            raise ValueError(
                f"MODEL.WEIGHTS {path} is a folder, not a file; the weights of a run are in its model_final.pth"
            )
        if not local.is_file():
            raise FileNotFoundError(f"MODEL.WEIGHTS {path} does not exist (looked in {Path.cwd()})")

    def _load_file(self, filename: str) -> dict:
        if filename.endswith(".pkl"):
            try:
                data = read_pickle(filename)
            except (pickle.UnpicklingError, EOFError, UnicodeDecodeError, IndexError, KeyError) as error:
                raise ValueError(
                    f"{filename} is not read: {(str(error).splitlines() or ['it is empty'])[0]}"
                ) from error
            if not isinstance(data, dict):
                raise ValueError(f"{filename} holds a {type(data).__name__}; a file of weights holds arrays by name")
            if "model" in data and "__author__" in data:
                return data
            blobs = data.get("blobs", data)
            blobs = {name: array for name, array in blobs.items() if not name.endswith("_momentum")}
            return {"model": blobs, "__author__": "Caffe2", "matching_heuristics": True}
        loaded = read_torch(filename)
        if not isinstance(loaded, dict):
            raise ValueError(f"{filename} holds a {type(loaded).__name__}; a file of weights holds tensors by name")
        if "model" not in loaded:
            loaded = {"model": loaded.get("state_dict", loaded)}
        if not isinstance(loaded["model"], dict) or not any(
            isinstance(value, torch.Tensor) for value in loaded["model"].values()
        ):
            raise ValueError(f"{filename} holds no tensors by name")
        # Of other things than tensors, such as counters, no weight can come.
        loaded["model"] = {
            name: value
            for name, value in loaded["model"].items()
            if isinstance(name, str) and isinstance(value, torch.Tensor)
        }
        loaded["model"] = adopt_names(loaded["model"], self.model, filename)
        return loaded

    def _log_incompatible_keys(self, incompatible) -> None:
        """A short table instead of the names of all tensors; an error or a warning where it is not what was meant."""
        wrong = [name for name, *_ in incompatible.incorrect_shapes]
        missing = [name for name in incompatible.missing_keys if name not in wrong]
        # BatchNorm's counters of batches are not reported as missing, and are of no use.
        names = [name for name in self.model.state_dict() if not name.endswith("num_batches_tracked")]
        parts = parts_loaded(names, missing, wrong)
        table = loading_table(parts, list(incompatible.unexpected_keys))
        classes = next(
            (
                (theirs[0], ours[0])
                for name, theirs, ours in incompatible.incorrect_shapes
                if name == "head.cls_score.bias"
            ),
            None,
        )
        said = ""
        if classes:
            anchors = self.model.anchor_generator.num_anchors[0]
            said = "the file has {} classes and this model {}: head.cls_score begins anew".format(
                *(n // anchors for n in classes)
            )
        by_name = {part.name: part for part in parts}
        lacking = [part for part in parts if part.name != "rest" and part.loaded < part.total]
        if self._complete and lacking:
            why = said.partition(":")[0] or f"{', '.join(part.name for part in lacking)} would be random"
            raise ValueError(
                f"the weights do not make up the whole model, which would be used untrained: {why}\n{table}"
            )
        if not any(part.loaded for part in parts if part.name != "rest"):
            logger.warning(
                "not one tensor of the weights file fits this model, which begins from random numbers:\n%s", table
            )
        elif by_name.get("backbone") in lacking or any(
            part.loaded for part in lacking if part.name in ("neck", "head")
        ):
            logger.warning(
                "the weights file does not hold all of the model; what is missing begins from random numbers:\n%s",
                "\n".join(filter(None, [said, table])),
            )
        else:
            logger.info("what was loaded:\n%s", table)
