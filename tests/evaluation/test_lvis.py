"""LVIS's metrics: classes are scored only where annotated, rare and frequent ones separately."""

import cv2
import numpy as np
import pytest
import torch

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, BoxMode, Instances

from retina_plugin.evaluation import EVALUATOR_REGISTRY


@pytest.fixture()
def dataset(tmp_path):
    """Register two images with a rare, a common and a frequent class; the second is not annotated for the rare one."""
    records = []
    for i, (boxes, absent) in enumerate([([(0, 0), (1, 20), (2, 40)], []), ([(1, 0), (2, 20)], [])]):
        file = tmp_path / f"{i}.png"
        cv2.imwrite(str(file), np.zeros((64, 64, 3), np.uint8))
        annotations = [
            {"bbox": [x, 0, 10, 10], "bbox_mode": BoxMode.XYWH_ABS, "category_id": label} for label, x in boxes
        ]
        records.append(
            {
                "file_name": str(file),
                "image_id": i + 1,
                "height": 64,
                "width": 64,
                "annotations": annotations,
                "not_exhaustive_category_ids": [],
                "neg_category_ids": absent,
            }
        )
    DatasetCatalog.register("lvis_like", lambda: records)
    counts = [{"id": 1, "image_count": 3}, {"id": 2, "image_count": 50}, {"id": 3, "image_count": 1000}]
    MetadataCatalog.get("lvis_like").set(thing_classes=["rare", "common", "frequent"], class_image_count=counts)
    yield records
    DatasetCatalog.remove("lvis_like")
    MetadataCatalog.pop("lvis_like")


def evaluate(records, found, folder, name="lvis"):
    """Evaluate detections (image, label, x, score)."""
    arguments = {"dataset_name": "lvis_like", "output_dir": str(folder), "detections_per_image": 300}
    evaluator = EVALUATOR_REGISTRY.build(name, **arguments)
    for record in records:
        mine = [one for one in found if one[0] == record["image_id"]]
        boxes = torch.tensor([[x, 0.0, x + 10, 10] for _, _, x, _ in mine]).reshape(-1, 4)
        instances = Instances((64, 64), pred_boxes=Boxes(boxes))
        instances.scores = torch.tensor([score for *_, score in mine])
        instances.pred_classes = torch.tensor([label for _, label, *_ in mine], dtype=torch.int64)
        evaluator.process([record], [{"instances": instances}])
    return evaluator.evaluate()["bbox"]


PERFECT = [(1, 0, 0.0, 0.9), (1, 1, 20.0, 0.9), (1, 2, 40.0, 0.9), (2, 1, 0.0, 0.9), (2, 2, 20.0, 0.9)]


def test_false_detection_counts_only_for_a_class_verified_to_be_absent(dataset, tmp_path):
    assert evaluate(dataset, PERFECT, tmp_path)["AP"] == pytest.approx(100, abs=0.1)
    stray = [*PERFECT, (2, 0, 50.0, 0.99)]  # the rare class on the second image, scored above the true detection
    found = evaluate(dataset, stray, tmp_path)
    assert found["APr"] == pytest.approx(100, abs=0.1), "that image is not annotated for the rare class"
    dataset[1]["neg_category_ids"] = [1]
    found = evaluate(dataset, stray, tmp_path)
    assert found["APr"] == pytest.approx(50, abs=0.6) and found["APc"] == found["APf"] == pytest.approx(100, abs=0.1)


def test_dataset_without_lvis_records_is_refused(dataset, tmp_path):
    for record in dataset:
        del record["neg_category_ids"]
    with pytest.raises(ValueError, match="lvis needs an LVIS dataset, but the records of lvis_like have no"):
        evaluate(dataset, PERFECT, tmp_path)


def test_voc_evaluator_chosen_by_its_key(dataset, tmp_path):
    found = evaluate(dataset, PERFECT[:-1], tmp_path, name="voc")
    assert found["AP50-rare"] == found["AP50-common"] == 100 and found["AP50-frequent"] == 50
    assert found["AP50"] == pytest.approx(250 / 3)
    assert found["AP50-11-frequent"] == pytest.approx(100 * 6 / 11)
