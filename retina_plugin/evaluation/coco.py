"""Detectron2's COCO evaluation of boxes, with an answer where nothing was detected."""

import json
import logging
from collections import OrderedDict
from pathlib import Path

from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.utils import comm

from retina_plugin.evaluation.ground_truth import GroundTruth
from retina_plugin.evaluation.hotcoco import (
    COCO_DETECTIONS,
    PREDICTIONS,
    HotCocoEvaluator,
    counted,
    say_what_is_counted,
)
from retina_plugin.evaluation.result_table import METRICS

logger = logging.getLogger(__name__)


class BoxEvaluator(COCOEvaluator):
    """``COCOEvaluator`` of boxes, on the records that training would see; gives AP 0, not NaN, to a model that detects nothing.

    Args:
        dataset_name: in detectron2's catalogs.
        output_dir: for the detections, ``coco_instances_results.json``, with the ids of the annotations, and for the annotations as scored.
        detections_per_image: TEST.DETECTIONS_PER_IMAGE.
    """

    def __init__(self, dataset_name: str, *, output_dir: str, detections_per_image: int = COCO_DETECTIONS) -> None:
        self.dataset_name, self.num_detections, self.processed, self.truth = (
            dataset_name,
            0,
            set(),
            GroundTruth.of(dataset_name),
        )
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
        self.num_detections, self.processed = 0, set()

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Take the detections of a batch."""
        super().process([{**record, "image_id": self.truth.number_of(record)} for record in inputs], outputs)
        self.processed |= {self.truth.number_of(record) for record in inputs}
        self.num_detections += sum(len(output["instances"]) for output in outputs)

    def evaluate(self, img_ids=None) -> OrderedDict | None:
        """COCO's figures in percent on the main process, None on the others."""
        detections = sum(comm.all_gather(self.num_detections))
        self._do_evaluation = self.truth.labelled  # what Detectron2 calls a dataset without annotations
        processed = set().union(*comm.all_gather(self.processed))
        if img_ids is None and self.truth.labelled and len(processed) < len(self.truth.original_ids):
            img_ids = [image["id"] for image in self.truth.of_images(processed, self.dataset_name)["images"]]
        results = super().evaluate(img_ids)
        if comm.is_main_process():
            self._give_original_ids(Path(self._output_dir) / PREDICTIONS)
        if results is None:
            return None
        if not self.truth.labelled:
            logger.warning(
                "dataset %s has no annotations: its detections are in %s, and there is nothing to score",
                self.dataset_name,
                Path(self._output_dir) / PREDICTIONS,
            )
            return OrderedDict()
        if detections == 0:
            logger.warning(
                "not one detection on %s, so its AP is 0: the model may be untrained, or MODEL.RETINANET.SCORE_THRESH_TEST too high",
                self.dataset_name,
            )
            results["bbox"] = dict.fromkeys(METRICS, 0.0)
            return results
        say_what_is_counted(self.truth, self.most)
        return results

    def _give_original_ids(self, file: Path) -> None:
        if not file.is_file():
            return
        found = json.loads(file.read_text(encoding="utf-8"))
        for detection in found:
            detection["image_id"] = self.truth.original_ids[detection["image_id"]]
            detection["category_id"] = self.truth.original_categories[detection["category_id"] - 1]
        file.write_text(json.dumps(found), encoding="utf-8")
