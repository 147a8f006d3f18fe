"""Detectron2's COCO evaluation of boxes, with an answer where nothing was detected."""

import logging
from collections import OrderedDict

from detectron2.evaluation import COCOEvaluator
from detectron2.utils import comm

from retina_plugin.evaluation.table import METRICS

logger = logging.getLogger(__name__)


class BoxEvaluator(COCOEvaluator):
    """``COCOEvaluator`` of boxes that gives AP 0, not NaN, to a model that detects nothing.

    Args:
        dataset_name: in detectron2's catalogs; annotations that are no COCO JSON are converted.
        output_dir: for the detections, ``coco_instances_results.json``.
    """

    def __init__(self, dataset_name: str, *, output_dir: str) -> None:
        # The converted annotations are not cached: they would outlive a change of the data.
        super().__init__(dataset_name, tasks=("bbox",), distributed=True, output_dir=output_dir, allow_cached_coco=False)
        self.dataset_name, self.num_detections = dataset_name, 0

    def reset(self) -> None:
        """Forget all detections."""
        super().reset()
        self.num_detections = 0

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Take the detections of a batch."""
        super().process(inputs, outputs)
        self.num_detections += sum(len(output["instances"]) for output in outputs)

    def evaluate(self, img_ids=None) -> OrderedDict | None:
        """COCO's figures in percent on the main process, None on the others."""
        detections = sum(comm.all_gather(self.num_detections))
        results = super().evaluate(img_ids)
        if results and detections == 0:
            logger.warning(
                "not one detection on %s, so its AP is 0: the model may be untrained, or MODEL.RETINANET.SCORE_THRESH_TEST too high", self.dataset_name
            )
            results["bbox"] = {name: 0.0 for name in METRICS}
        return results
