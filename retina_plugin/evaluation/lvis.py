"""LVIS's average precision for rare, common and frequent classes, computed by hotcoco."""

from collections.abc import Sequence

import hotcoco
import numpy as np

from detectron2.data import DatasetCatalog, MetadataCatalog

from retina_plugin.evaluation.hotcoco import HotCocoEvaluator
from retina_plugin.evaluation.rows import numbered_from_one

RARE, COMMON = 10, 100
"""Largest number of training images of a rare and of a common class."""

PARTLY, ABSENT = "not_exhaustive_category_ids", "neg_category_ids"
"""Keys of a record of Detectron2's LVIS: classes not labelled exhaustively, and classes verified to be absent."""


class LvisEvaluator(HotCocoEvaluator):
    """LVIS's metrics (AP, APr, APc, APf, ...) in percent; a class is scored only on images that were annotated for it.

    For datasets of Detectron2's ``register_lvis_instances``, whose records list the classes each image was annotated
    for.

    Args:
        dataset_name: name in Detectron2's catalogs.
        output_dir: folder for the detections.
        detections_per_image: LVIS counts 300.

    Source: Gupta et al. 2019, *LVIS*, section 3.
    """

    def __init__(self, dataset_name: str, *, output_dir: str, detections_per_image: int = 300) -> None:
        super().__init__(dataset_name, output_dir=output_dir, detections_per_image=detections_per_image)
        records = DatasetCatalog.get(dataset_name)
        if not any(PARTLY in record and ABSENT in record for record in records):
            raise ValueError(
                f"TEST.EVALUATOR lvis needs an LVIS dataset, but the records of {dataset_name} have no {PARTLY} and "
                f"{ABSENT}; use TEST.EVALUATOR hotcoco for COCO's metrics"
            )
        self.looked_for = {self.truth.number_of(record): record for record in records}
        counts = {
            entry["id"]: entry["image_count"]
            for entry in MetadataCatalog.get(dataset_name).get("class_image_count") or ()
        }
        if not counts:  # count in the annotations of the evaluated split instead
            for annotation in {(x["category_id"], x["image_id"]) for x in self.truth.coco["annotations"]}:
                counts[annotation[0]] = counts.get(annotation[0], 0) + 1
        categories = range(1, len(self.truth.class_names) + 1)
        self.frequency = {number: _frequency(counts.get(number, 0)) for number in categories}

    @staticmethod
    def metric_names(class_names: Sequence[str]) -> list[str]:
        """Return the metrics that LVIS reports; there are none per class."""
        return [
            "AP",
            "AP50",
            "AP75",
            *(f"AP{part}" for part in "smlrcf"),
            *(f"AR{part}@300" for part in ("", "s", "m", "l")),
        ]

    def score(self, rows: np.ndarray, coco: dict) -> dict[str, dict[str, float]]:
        """Score detections (D, 7), as :meth:`HotCocoEvaluator.score` does, with LVIS's rules."""
        images = []
        for image in coco["images"]:
            record = self.looked_for.get(image["id"], {})
            images.append({**image, **{key: list(record.get(key, ())) for key in (PARTLY, ABSENT)}})
        categories = [{**category, "frequency": self.frequency[category["id"]]} for category in coco["categories"]]
        truth = hotcoco.COCO({**coco, "images": images, "categories": categories})
        found = hotcoco.COCOeval(truth, truth.loadRes(numbered_from_one(rows)), "bbox", lvis_style=True)
        found.run()
        return {"bbox": {name: _percent(value) for name, value in found.get_results().items()}}

    def thresholds(self, rows: np.ndarray, coco: dict) -> dict[str, dict[str, float]]:
        """Return nothing: where not every object is labelled, detections cannot be counted as wrong."""
        return {}


def _frequency(num_images: int) -> str:
    """Return the group of a class with that many training images: "r" (rare), "c" (common) or "f" (frequent)."""
    if num_images <= RARE:
        return "r"
    return "c" if num_images <= COMMON else "f"


def _percent(value: float) -> float:
    """Return a metric in percent; NaN for -1, which stands for "no ground truth"."""
    return 100 * value if value >= 0 else float("nan")
