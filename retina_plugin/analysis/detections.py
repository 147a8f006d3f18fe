"""Detections together with the annotations they are compared with, read from files."""

import json
import os
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import hotcoco
import numpy as np
import yaml

from detectron2.data import DatasetCatalog

from retina_plugin.data.card import RUN_CARD
from retina_plugin.data.catalog import FOUND, register_card
from retina_plugin.data.discover import find_card, write_card
from retina_plugin.evaluation.ground_truth import GroundTruth
from retina_plugin.evaluation.hotcoco import counted
from retina_plugin.evaluation.rows import PREDICTIONS, numbered_from_one

CONFIG = "config.yaml"


@dataclass
class Detections:
    """Detections of a dataset and its annotations.

    Attributes:
        dataset: name in Detectron2's catalogs.
        truth: the annotations, images numbered from 1.
        coco: those of the images that were predicted on.
        rows: (D, 7), image number, x, y, width, height, score, label.
        most: detections per image that count.
        source: file of the detections.
        cfg: the config beside it, as a nested mapping; empty if there is none.
    """

    dataset: str
    truth: GroundTruth
    coco: dict
    rows: np.ndarray
    most: int
    source: Path
    cfg: dict = field(default_factory=dict)

    @property
    def class_names(self) -> list[str]:
        """K names."""
        return self.truth.class_names

    def above(self, score: float) -> "Detections":
        """Return the detections from a score on."""
        return replace(self, rows=self.rows[self.rows[:, 5] >= score])

    def of_class(self, label: int) -> "Detections":
        """Return the detections and annotations of one class; all classes keep their numbers."""
        kept = [x for x in self.coco["annotations"] if x["category_id"] == label + 1]
        return replace(self, rows=self.rows[self.rows[:, 6] == label], coco={**self.coco, "annotations": kept})

    def of_images(self, numbers: Collection[int]) -> "Detections":
        """Return the detections and annotations of some images."""
        images = [x for x in self.coco["images"] if x["id"] in numbers]
        kept = [x for x in self.coco["annotations"] if x["image_id"] in numbers]
        mine = np.isin(self.rows[:, 0], list(numbers))
        return replace(self, rows=self.rows[mine], coco={**self.coco, "images": images, "annotations": kept})

    def evaluated(self, **params: Any) -> Any:
        """Return a ``COCOeval`` of hotcoco, evaluated and accumulated; detection i has the id i + 1.

        Args:
            params: changes of its parameters, such as ``iou_thrs=[0.5]``.
        """
        truth = hotcoco.COCO(self.coco)
        # hotcoco needs a detection; this one has the lowest score and no area, so it changes no metric.
        rows = self.rows if len(self.rows) else np.array([[1.0, 0, 0, 0, 0, 0, 0]])
        found: Any = hotcoco.COCOeval(truth, truth.loadRes(numbered_from_one(rows)), "bbox")
        settings = found.params
        settings.max_dets = counted(self.most)
        for name, value in params.items():
            setattr(settings, name, value)
        found.params = settings
        found.evaluate()
        found.accumulate()
        return found


def read_detections(source: str | os.PathLike, data: str | None = None) -> Detections:
    """Read the detections of a run or an evaluation, or a file of them, and the annotations they belong to.

    Args:
        source: folder of a run or of an evaluation, ``coco_instances_results.json`` of one, or a JSON file in COCO's
            format: a list of detections with the ids of the annotations, or what ``retina predict`` writes.
        data: dataset: a registered name, a card, or a folder of images and annotations, of which the validation images
            are taken; None: the dataset that the config beside the detections names.

    Raises:
        FileNotFoundError: there is no such file or folder, or no detections in it.
        ValueError: the dataset is not known, has no annotations, or the detections are not of its images.
    """
    path = Path(source)
    file = path / PREDICTIONS if path.is_dir() else path
    if not file.is_file():
        what = f"no {PREDICTIONS}; `retina evaluate` writes one" if path.is_dir() else "no such file"
        raise FileNotFoundError(f"{source}: {what}")
    cfg = _config_beside(file)
    dataset = dataset_of(data) if data else _dataset_in(cfg, file)
    truth = GroundTruth.of(dataset)
    if not truth.labelled:
        raise ValueError(f"dataset {dataset} has no annotations, so its detections cannot be judged")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from error
    most = int(cfg.get("TEST", {}).get("DETECTIONS_PER_IMAGE", 100))
    if isinstance(content, list):
        return Detections(dataset, truth, truth.coco, _rows_of_list(content, truth, file, dataset), most, file, cfg)
    rows, images = _rows_of_file(content, truth, file)
    return Detections(dataset, truth, truth.of_images(images, dataset), rows, most, file, cfg)


def _config_beside(file: Path) -> dict:
    """Return the config in the folder of a file; empty if there is none."""
    config = file.with_name(CONFIG)
    return yaml.safe_load(config.read_text(encoding="utf-8")) if config.is_file() else {}


def _dataset_in(cfg: dict, file: Path) -> str:
    """Return the first test dataset of a config; it is registered from the card of the run if that is needed."""
    names = cfg.get("DATASETS", {}).get("TEST") or ()
    if not names:
        raise ValueError(f"{file}: no config beside it names its dataset; give --data")
    if names[0] not in DatasetCatalog:
        card = next((x for folder in file.parents[:4] if (x := folder / RUN_CARD).is_file()), None)
        if card is not None:
            register_card(card)
    if names[0] not in DatasetCatalog:
        raise ValueError(f"dataset {names[0]}, on which {file} was evaluated, is not registered; give --data")
    return names[0]


def dataset_of(data: str) -> str:
    """Return the name of the dataset that ``--data`` means."""
    if data in DatasetCatalog:
        return data
    card = find_card(data)
    found = not card.file.exists() or card.file.parent.name == FOUND  # rewritten on every search
    file = write_card(card, Path("datasets") / FOUND)[0] if found else card.file
    card = register_card(file, replace=found)
    split = next(x for x in ("val", "test", *card.splits) if x in card.splits)
    return f"{card.name}_{split}"


def _rows_of_list(content: list, truth: GroundTruth, file: Path, dataset: str) -> np.ndarray:
    """Return the rows of a list of detections with the ids of the annotations."""
    numbers = {original: number for number, original in truth.original_ids.items()}
    labels = {original: label for label, original in enumerate(truth.original_categories)}
    rows, i = np.empty((len(content), 7)), -1
    try:
        for i, x in enumerate(content):
            rows[i] = (numbers[x["image_id"]], *x["bbox"], x["score"], labels[x["category_id"]])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{file}: detection {i} does not belong to dataset {dataset}, or is not one: {error}"
        ) from error
    return rows


def _rows_of_file(content: Any, truth: GroundTruth, file: Path) -> tuple[np.ndarray, set[int]]:
    """Return the rows of COCO annotations with scores, and the numbers of their images.

    Images are matched by path, then by a name that is unique.
    """
    if not (isinstance(content, dict) and {"images", "annotations", "categories"} <= set(content)):
        raise ValueError(f"{file} is neither a list of detections nor COCO's images, annotations and categories")
    by_path = {os.path.realpath(x["file_name"]): x["id"] for x in truth.coco["images"]}
    names = Counter(os.path.basename(path) for path in by_path)
    by_name = {os.path.basename(path): number for path, number in by_path.items() if names[os.path.basename(path)] == 1}
    numbers = {}
    for x in content["images"]:
        path = os.path.realpath(file.parent / x["file_name"])
        numbers[x["id"]] = by_path.get(path) or by_name.get(os.path.basename(path))
    labels = {
        x["id"]: truth.class_names.index(x["name"]) for x in content["categories"] if x["name"] in truth.class_names
    }
    if not any(numbers.values()):
        raise ValueError(f"{file}: none of its images is in the dataset")
    found = [
        (numbers[x["image_id"]], *x["bbox"], x["score"], labels[x["category_id"]])
        for x in content["annotations"]
        if numbers.get(x["image_id"]) and x["category_id"] in labels and "score" in x
    ]
    return np.array(found, dtype=np.float64).reshape(-1, 7), {number for number in numbers.values() if number}
