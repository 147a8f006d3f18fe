"""COCO's box AP, computed by hotcoco, a Rust port of pycocotools: the same numbers, tens of times faster."""

import json
import logging
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hotcoco
import numpy as np

from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from retina_plugin.evaluation.ground_truth import GroundTruth
from retina_plugin.evaluation.result_table import METRICS
from retina_plugin.evaluation.rows import PREDICTIONS, numbered_from_one, rows_of, write_predictions
from retina_plugin.evaluation.thresholds import threshold_results

logger = logging.getLogger(__name__)

PRECISION_RECALL = "precision_recall.json"
"""File of class -> precision at recall 0, 0.01, ..., 1 at IoU 0.5; -1 for a class without ground truth."""

COCO_DETECTIONS = 100
"""Detections per image that COCO's metrics count."""


def coco_figures(coco_eval: Any, class_names: list[str]) -> dict[str, float]:
    """Return COCO's twelve metrics and the AP of every class, in percent; NaN without ground truth.

    Args:
        coco_eval: a ``COCOeval`` of hotcoco or pycocotools, evaluated and accumulated with 1, 10, 100 detections per
            image, or with a fourth, larger number: then "AP@100" is COCO's AP, and all others count that many
            detections.
        class_names: in the order of the category ids.
    """
    precision = np.asarray(coco_eval.eval["precision"])  # IoU x recall x class x area x detections
    recall = np.asarray(coco_eval.eval["recall"])  # IoU x class x area x detections
    assert precision.shape[2] == len(class_names), (precision.shape, class_names)
    values = [_mean(precision[..., 0, -1]), _mean(precision[0, :, :, 0, -1]), _mean(precision[5, :, :, 0, -1])]
    values += [_mean(precision[..., area, -1]) for area in (1, 2, 3)]
    values += [_mean(recall[..., 0, most]) for most in (0, 1, 2)] + [_mean(recall[..., area, -1]) for area in (1, 2, 3)]
    figures = dict(zip(METRICS, values, strict=True))
    if precision.shape[-1] > 3:
        figures["AP@100"] = _mean(precision[..., 0, 2])
    return figures | {f"AP-{name}": _mean(precision[:, :, k, 0, -1]) for k, name in enumerate(class_names)}


def _mean(values: np.ndarray) -> float:
    """Return the mean of values of any shape, in percent; those of -1, COCO's "no ground truth", are left out."""
    there = values[values > -1]
    return 100 * float(there.mean()) if there.size else float("nan")


def counted(detections: int) -> list[int]:
    """Return the numbers of detections per image to count: COCO's 1, 10, 100, and ``detections`` if it is larger."""
    return [1, 10, COCO_DETECTIONS, *([detections] if detections > COCO_DETECTIONS else [])]


class HotCocoEvaluator(DatasetEvaluator):
    """Faster replacement of Detectron2's ``COCOEvaluator`` for boxes.

    Scores against the records that training would see, and writes ``coco_instances_results.json`` and
    ``precision_recall.json``. A model that detects nothing has AP 0, not NaN. For a dataset without annotations only
    the detections are written.

    Args:
        dataset_name: name in Detectron2's catalogs.
        output_dir: folder for the detections, with the image and category ids of the annotations.
        detections_per_image: TEST.DETECTIONS_PER_IMAGE.
    """

    def __init__(self, dataset_name: str, *, output_dir: str, detections_per_image: int = COCO_DETECTIONS) -> None:
        self.dataset_name, self.output_dir = dataset_name, Path(output_dir)
        self.output_dir.mkdir(parents=True, exist_ok=True)
        self.truth = GroundTruth.of(dataset_name)
        self.most = counted(detections_per_image)
        self.reset()

    @staticmethod
    def metric_names(class_names: Sequence[str]) -> list[str]:
        """Return the metrics that "bbox" of the results may hold, so that a name can be checked before training."""
        return [*METRICS, "AP@100", *(f"AP-{name}" for name in class_names)]

    def reset(self) -> None:
        """Forget all detections."""
        self.detections: list[np.ndarray] = []
        self.processed: set[int] = set()

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Collect the detections of a batch as rows (image number, x, y, width, height, score, label).

        Raises:
            ValueError: an input is not an image of the dataset.
        """
        for record, output in zip(inputs, outputs, strict=True):
            number = self.truth.known_number_of(record, self.dataset_name)
            self.processed.add(number)
            self.detections.append(rows_of(number, output["instances"]))

    def evaluate(self) -> OrderedDict | None:
        """Return the metrics in percent on the main process, None on the others."""
        mine = np.concatenate([np.zeros((0, 7), dtype=np.float32), *self.detections])
        self.detections = [mine]
        gathered, processed = comm.gather(mine, dst=0), comm.gather(self.processed, dst=0)
        if not comm.is_main_process():
            return None
        rows = gathered[0] if len(gathered) == 1 else np.concatenate(gathered)
        del mine, gathered
        write_predictions(rows, self.truth, self.output_dir / PREDICTIONS)
        if not self.truth.labelled:
            logger.warning(
                "dataset %s has no annotations: its detections were written to %s, but cannot be scored",
                self.dataset_name,
                self.output_dir / PREDICTIONS,
            )
            return OrderedDict()
        if len(rows) == 0:
            logger.warning(
                "no detections on %s, so its AP is 0: "
                "the model may be untrained, or MODEL.RETINANET.SCORE_THRESH_TEST too high",
                self.dataset_name,
            )
            return OrderedDict(bbox=dict.fromkeys(METRICS, 0.0))
        coco = self.truth.of_images(set().union(*processed), self.dataset_name)
        return OrderedDict({**self.score(rows, coco), **self.thresholds(rows, coco)})

    def thresholds(self, rows: np.ndarray, coco: dict) -> dict[str, dict[str, float]]:
        """Return the score thresholds with the best F1, see :func:`threshold_results`; arguments as :meth:`score`."""
        return threshold_results(rows, coco, self.truth.class_names, most=self.most[-1])

    def score(self, rows: np.ndarray, coco: dict) -> dict[str, dict[str, float]]:
        """Score detections and return {"bbox": {metric: percent}}.

        Args:
            rows: (D, 7) float32, image number, x, y, width, height, score, label; D > 0.
            coco: images, annotations and categories of the processed images, numbered from 1.
        """
        say_what_is_counted(self.truth, self.most)
        truth = hotcoco.COCO(coco)
        coco_eval: Any = hotcoco.COCOeval(truth, truth.loadRes(numbered_from_one(rows)), "bbox")
        params = coco_eval.params
        params.max_dets = self.most
        coco_eval.params = params
        coco_eval.evaluate()
        coco_eval.accumulate()
        precision = np.asarray(coco_eval.eval["precision"])
        curves = precision[0, :, :, 0, -1]  # recall x class, at IoU 0.5, all areas, most detections
        by_class = {name: curves[:, k].tolist() for k, name in enumerate(self.truth.class_names)}
        (self.output_dir / PRECISION_RECALL).write_text(json.dumps(by_class), encoding="utf-8")
        return {"bbox": coco_figures(coco_eval, self.truth.class_names)}


def say_what_is_counted(truth: GroundTruth, most: list[int]) -> None:
    """Log how many detections per image are counted, and warn if images have more objects than that.

    Args:
        truth: the annotations.
        most: the numbers of detections per image, as :func:`counted` returns them.
    """
    counts: dict[int, int] = {}
    for annotation in truth.coco["annotations"]:
        counts[annotation["image_id"]] = counts.get(annotation["image_id"], 0) + (not annotation["iscrowd"])
    if len(most) > 3:
        logger.info("AP counts %d detections per image (TEST.DETECTIONS_PER_IMAGE); AP@100 is COCO's AP", most[-1])
    if crowded := sum(count > most[-1] for count in counts.values()):
        logger.warning(
            "%d images have more than %d objects, the most detections that are counted, "
            "so AP 100 cannot be reached: raise TEST.DETECTIONS_PER_IMAGE",
            crowded,
            most[-1],
        )
