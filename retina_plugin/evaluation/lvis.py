"""LVIS's average precision, of rare, common and frequent classes, by hotcoco."""

from collections.abc import Sequence

import hotcoco
import numpy as np

from detectron2.data import DatasetCatalog, MetadataCatalog

from retina_plugin.evaluation.hotcoco import HotCocoEvaluator, numbered_from_one

RARE, COMMON = 10, 100
"""Most training images of a rare and of a common class."""

PARTLY, ABSENT = "not_exhaustive_category_ids", "neg_category_ids"
"""Of a record of Detectron2's LVIS: classes that were not labelled completely, and classes that are known not to be there."""


class LvisEvaluator(HotCocoEvaluator):
    """AP, APr, APc, APf and what else LVIS reports, in percent; a class counts on the images where somebody looked for it.

    For a dataset of Detectron2's ``register_lvis_instances``, whose records say which classes were looked for.

    Args:
        dataset_name: in detectron2's catalogs.
        output_dir: for the detections.
        detections_per_image: LVIS counts 300 of an image.

    Source: Gupta et al. 2019, *LVIS*, section 3.
    """

    def __init__(self, dataset_name: str, *, output_dir: str, detections_per_image: int = 300) -> None:
        super().__init__(dataset_name, output_dir=output_dir, detections_per_image=detections_per_image)
        records = DatasetCatalog.get(dataset_name)
        if not any(PARTLY in record and ABSENT in record for record in records):
            raise ValueError(
                f"TEST.EVALUATOR lvis needs a dataset of LVIS, and the records of {dataset_name} have no {PARTLY} and {ABSENT}; hotcoco gives COCO's figures"
            )
        self.looked_for = {self.truth.number_of(record): record for record in records}
        counts = {
            entry["id"]: entry["image_count"]
            for entry in MetadataCatalog.get(dataset_name).get("class_image_count") or ()
        }
        if not counts:  # as in the annotations of the split itself
            for annotation in {(x["category_id"], x["image_id"]) for x in self.truth.coco["annotations"]}:
                counts[annotation[0]] = counts.get(annotation[0], 0) + 1
        self.frequency = {
            number: "r" if counts.get(number, 0) <= RARE else "c" if counts[number] <= COMMON else "f"
            for number in range(1, len(self.truth.class_names) + 1)
        }

    @staticmethod
    def metric_names(class_names: Sequence[str]) -> list[str]:
        """See :class:`HotCocoEvaluator`."""
        return [
            "AP",
            "AP50",
            "AP75",
            *(f"AP{part}" for part in "smlrcf"),
            *(f"AR{part}@300" for part in ("", "s", "m", "l")),
        ]

    def score(self, rows: np.ndarray, coco: dict) -> dict[str, dict[str, float]]:
        """See :class:`HotCocoEvaluator`."""
        images = [
            {**image, **{key: list(self.looked_for.get(image["id"], {}).get(key, ())) for key in (PARTLY, ABSENT)}}
            for image in coco["images"]
        ]
        categories = [{**category, "frequency": self.frequency[category["id"]]} for category in coco["categories"]]
        truth = hotcoco.COCO({**coco, "images": images, "categories": categories})
        found = hotcoco.COCOeval(truth, truth.loadRes(numbered_from_one(rows)), "bbox", lvis_style=True)
        found.run()
        return {
            "bbox": {name: 100 * value if value >= 0 else float("nan") for name, value in found.get_results().items()}
        }
