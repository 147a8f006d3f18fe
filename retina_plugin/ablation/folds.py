"""Cross-validation: every image of a dataset is predicted by a detector that was not trained on it."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from retina_plugin.ablation.worker import FAILED, PLAN, start_worker
from retina_plugin.analysis.detections import Detections, read_detections
from retina_plugin.data.card import DatasetCard
from retina_plugin.data.catalog import register_card
from retina_plugin.data.export import write_dataset
from retina_plugin.engine.console import say
from retina_plugin.engine.summary import SUMMARY
from retina_plugin.evaluation.ground_truth import GroundTruth

SPLIT, HELD_OUT = "train", "val"
"""Splits of the dataset of a fold: what its detector is trained on, and what it predicts."""

PLAIN = ("TEST.EVAL_EPOCHS", "0", "TEST.EVAL_PERIOD", "0", "TEST.EARLY_STOP_PATIENCE", "0", "DATASETS.FINAL_TEST", "()")
"""Options of each training: the last weights count, so that no choice is made by the annotations under review."""


def cross_validated(
    card: DatasetCard,
    records: Sequence[dict],
    output: str | os.PathLike,
    *,
    folds: int,
    config_file: str | os.PathLike,
    opts: Sequence[str] = (),
    seed: int = 0,
) -> Detections:
    """Train one detector per fold on the other folds, and return what each detects in its own.

    Trainings that have ended in ``output`` are not repeated, interrupted ones continue.

    Args:
        card: of the dataset.
        records: Detectron2's dataset dicts, boxes XYXY_ABS.
        output: folder; it gets the dataset as COCO JSON and a folder per fold.
        folds: number of parts, and of trainings.
        config_file: config of the trainings.
        opts: KEY, VALUE, ...
        seed: of the division into folds.

    Raises:
        ValueError: there are fewer images than folds, fewer than two folds, ``output`` holds a cross-validation of
            something else, or a training failed.
    """
    if not 2 <= folds <= len(records):
        raise ValueError(f"--folds must be from 2 to the number of images, {len(records)}; got {folds}")
    output = Path(output).resolve()
    _check_same(output, records, folds=folds, seed=seed, config_file=config_file, opts=opts)
    name = f"{card.name}_folds"
    whole = _dataset(card, {SPLIT: list(records)}, output / "data", name)
    number_of_fold = np.random.default_rng(seed).permutation(len(records)) % folds
    rows: list[np.ndarray] = []
    truth = GroundTruth.of(f"{register_card(whole, replace=True).name}_{SPLIT}")
    most = 0
    for fold in range(folds):
        inside = [record for record, x in zip(records, number_of_fold, strict=True) if x == fold]
        others = [record for record, x in zip(records, number_of_fold, strict=True) if x != fold]
        folder = output / f"fold{fold}"
        folder.mkdir(exist_ok=True)
        data = _dataset(card, {SPLIT: others, HELD_OUT: inside}, folder / "data", f"{name}{fold}")
        run = folder / "run"
        if not (run / SUMMARY).is_file():
            say(f"fold {fold + 1} of {folds}: training on {len(others)} images, prediction on {len(inside)}")
            _train(run, data, config_file, opts)
        found = read_detections(run, str(data))
        rows.append(_renumbered(found, truth))
        most = max(most, found.most)
    return Detections(f"{name}_{SPLIT}", truth, truth.coco, np.concatenate(rows), most, output / "folds")


def _check_same(output: Path, records: Sequence[dict], **settings: Any) -> None:
    """Check that what is in the folder comes from the same annotations and settings; an empty folder notes them.

    Raises:
        ValueError: it does not.
    """
    boxes = [
        (record["file_name"], [(list(map(float, x["bbox"])), x["category_id"]) for x in record["annotations"]])
        for record in records
    ]
    digest = hashlib.sha256(repr(boxes).encode(errors="surrogateescape")).hexdigest()
    now = {"annotations": digest, **{name: str(value) for name, value in settings.items()}}
    file = output / "folds.json"
    output.mkdir(parents=True, exist_ok=True)
    if not file.is_file():
        file.write_text(json.dumps(now, indent=1), encoding="utf-8")
        return
    before = json.loads(file.read_text(encoding="utf-8"))
    if changed := [name for name in now if before.get(name) != now[name]]:
        raise ValueError(
            f"{output} holds a cross-validation with different {', '.join(changed)}; choose a different --output"
        )


def _dataset(card: DatasetCard, records: dict[str, list[dict]], folder: Path, name: str) -> Path:
    """Write records as COCO JSON unless they are there, and return the card."""
    file = folder / f"{name}.yaml"
    return file if file.is_file() else write_dataset(card, records, folder, name=name)


def _train(folder: Path, data: Path, config_file: str | os.PathLike, opts: Sequence[str]) -> None:
    """Train in a process of its own; its output is in the folder."""
    folder.mkdir(exist_ok=True)
    plan = {
        "config_file": str(Path(config_file).resolve()),
        "data": str(data),
        "num_gpus": 1,
        "opts": [*PLAIN, *opts, "OUTPUT_DIR", str(folder)],
    }
    (folder / PLAN).write_text(json.dumps(plan, indent=1), encoding="utf-8")
    start_worker(folder)
    if (folder / FAILED).is_file():
        reason = (folder / FAILED).read_text(encoding="utf-8")
        raise ValueError(f"the training in {folder} failed: {reason}")


def _renumbered(found: Detections, truth: GroundTruth) -> np.ndarray:
    """Return the rows of a fold with the numbers that its images have in the whole dataset."""
    numbers = {x["id"]: truth.numbers[x["file_name"]] for x in found.coco["images"]}
    rows = found.rows.copy()
    rows[:, 0] = [numbers[int(x)] for x in rows[:, 0]]
    return rows
