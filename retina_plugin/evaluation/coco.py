"""Detectron2's COCO evaluation of boxes, with AP 0 instead of NaN if nothing was detected."""

import json
import logging
from collections import OrderedDict
from pathlib import Path

import numpy as np

from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.utils import comm

from retina_plugin.evaluation.ground_truth import GroundTruth
from retina_plugin.evaluation.hotcoco import (
    COCO_DETECTIONS,
    HotCocoEvaluator,
    counted,
    say_what_is_counted,
)
from retina_plugin.evaluation.result_table import METRICS
from retina_plugin.evaluation.rows import PREDICTIONS, rows_of
from retina_plugin.evaluation.thresholds import threshold_results

logger = logging.getLogger(__name__)


class BoxEvaluator(COCOEvaluator):
    """``COCOEvaluator`` for boxes, scored against the records that training would see.

    A model that detects nothing has AP 0, not NaN.

    Args:
        dataset_name: name in Detectron2's catalogs.
        output_dir: folder for the detections (``coco_instances_results.json``, with the annotations' own ids) and for
            the annotations as scored.
        detections_per_image: TEST.DETECTIONS_PER_IMAGE.
    """

    def __init__(self, dataset_name: str, *, output_dir: str, detections_per_image: int = COCO_DETECTIONS) -> None:
        self.dataset_name = dataset_name
        self.rows: list[np.ndarray] = []
        self.processed: set[int] = set()
        self.truth = GroundTruth.of(dataset_name)
        folder = Path(output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{dataset_name.replace('/', '_').replace(':', '_')}_coco_format.json"
        if comm.is_main_process():
            file.write_text(json.dumps(self.truth.coco), encoding="utf-8")
        comm.synchronize()
        scored = f"{dataset_name} as scored"
        if scored in MetadataCatalog:
            MetadataCatalog.pop(scored)
        to_label = {label + 1: label for label in range(len(self.truth.class_names))}
        MetadataCatalog.get(scored).set(
            json_file=str(file), thing_classes=self.truth.class_names, thing_dataset_id_to_contiguous_id=to_label
        )
        self.most = counted(detections_per_image)
        super().__init__(
            scored,
            tasks=("bbox",),
            distributed=True,
            output_dir=output_dir,
            allow_cached_coco=False,
            max_dets_per_image=self.most[-1] if len(self.most) > 3 else None,
        )

    metric_names = staticmethod(HotCocoEvaluator.metric_names)

    def reset(self) -> None:
        """Forget all detections."""
        super().reset()
        self.rows, self.processed = [], set()

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Collect the detections of a batch.

        Raises:
            ValueError: an input is not an image of the dataset.
        """
        numbers = [self.truth.known_number_of(record, self.dataset_name) for record in inputs]
        super().process([{**x, "image_id": number} for x, number in zip(inputs, numbers, strict=True)], outputs)
        self.rows += [rows_of(number, x["instances"]) for number, x in zip(numbers, outputs, strict=True)]
        self.processed.update(numbers)

    def evaluate(self, img_ids: list[int] | None = None) -> OrderedDict | None:
        """Return COCO's metrics in percent on the main process, None on the others.

        Args:
            img_ids: numbers of the images to score, from 1; None scores all that were processed.
        """
        gathered = comm.gather(np.concatenate([np.zeros((0, 7), dtype=np.float32), *self.rows]), dst=0)
        self._do_evaluation = self.truth.labelled  # False is Detectron2's mark of a dataset without annotations
        processed: set[int] = set().union(*comm.all_gather(self.processed))
        if img_ids is None and self.truth.labelled and len(processed) < len(self.truth.original_ids):
            img_ids = [image["id"] for image in self.truth.of_images(processed, self.dataset_name)["images"]]
        results = super().evaluate(img_ids)
        if comm.is_main_process():
            self._give_original_ids(Path(self._output_dir) / PREDICTIONS)
        if results is None:
            return None
        if not self.truth.labelled:
            logger.warning(
                "dataset %s has no annotations: its detections were written to %s, but cannot be scored",
                self.dataset_name,
                Path(self._output_dir) / PREDICTIONS,
            )
            return OrderedDict()
        rows = np.concatenate(gathered)
        if not len(rows):
            logger.warning(
                "no detections on %s, so its AP is 0: "
                "the model may be untrained, or MODEL.RETINANET.SCORE_THRESH_TEST too high",
                self.dataset_name,
            )
            results["bbox"] = dict.fromkeys(METRICS, 0.0)
            return results
        say_what_is_counted(self.truth, self.most)
        coco = self.truth.coco if img_ids is None else _only(self.truth.coco, set(img_ids))
        results.update(threshold_results(rows, coco, self.truth.class_names, most=self.most[-1]))
        return results

    def _give_original_ids(self, file: Path) -> None:
        """Replace the image and category numbers in a file of detections by the annotations' own ids."""
        if not file.is_file():
            return
        found = json.loads(file.read_text(encoding="utf-8"))
        for detection in found:
            detection["image_id"] = self.truth.original_ids[detection["image_id"]]
            detection["category_id"] = self.truth.original_categories[detection["category_id"] - 1]
        file.write_text(json.dumps(found), encoding="utf-8")


def _only(coco: dict, numbers: set[int]) -> dict:
    """Return the annotations of the images of these numbers."""
    return {**coco, "annotations": [x for x in coco["annotations"] if x["image_id"] in numbers]}
