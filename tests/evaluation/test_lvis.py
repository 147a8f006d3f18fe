"""LVIS's figures: a class counts where somebody looked for it, rare and frequent classes apart."""

import cv2
import numpy as np
import pytest
import torch

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, BoxMode, Instances

from retina_plugin.evaluation import EVALUATOR_REGISTRY


@pytest.fixture()
def dataset(tmp_path):
    """Two images, three classes: a rare one, a common one, a frequent one; on the second image nobody looked for the first."""
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
    """found: (image, label, x, score)."""
    evaluator = EVALUATOR_REGISTRY.build(
        name, dataset_name="lvis_like", output_dir=str(folder), detections_per_image=300
    )
    for record in records:
        mine = [one for one in found if one[0] == record["image_id"]]
        instances = Instances(
            (64, 64), pred_boxes=Boxes(torch.tensor([[x, 0.0, x + 10, 10] for _, _, x, _ in mine]).reshape(-1, 4))
        )
        instances.scores, instances.pred_classes = (
            torch.tensor([s for *_, s in mine]),
            torch.tensor([label for _, label, *_ in mine], dtype=torch.int64),
        )
        evaluator.process([record], [{"instances": instances}])
    return evaluator.evaluate()["bbox"]


PERFECT = [(1, 0, 0.0, 0.9), (1, 1, 20.0, 0.9), (1, 2, 40.0, 0.9), (2, 1, 0.0, 0.9), (2, 2, 20.0, 0.9)]


def test_what_nobody_looked_for_costs_nothing_and_what_is_known_to_be_absent_does(dataset, tmp_path):
    assert evaluate(dataset, PERFECT, tmp_path)["AP"] == pytest.approx(100, abs=0.1)
    stray = [*PERFECT, (2, 0, 50.0, 0.99)]  # a rare thing on the second image, more certain than the right one
    found = evaluate(dataset, stray, tmp_path)
    assert found["APr"] == pytest.approx(100, abs=0.1), "on that image nobody looked for it"
    dataset[1]["neg_category_ids"] = [1]
    found = evaluate(dataset, stray, tmp_path)
    assert found["APr"] == pytest.approx(50, abs=0.6) and found["APc"] == found["APf"] == pytest.approx(100, abs=0.1)


def test_another_dataset_is_refused(dataset, tmp_path):
    for record in dataset:
        del record["neg_category_ids"]
    with pytest.raises(ValueError, match="lvis needs a dataset of LVIS, and the records of lvis_like have no"):
        evaluate(dataset, PERFECT, tmp_path)


def test_voc_by_key(dataset, tmp_path):
    found = evaluate(dataset, PERFECT[:-1], tmp_path, name="voc")
    assert (
        found["AP50-rare"] == found["AP50-common"] == 100
        and found["AP50-frequent"] == 50
        and found["AP50"] == pytest.approx(250 / 3)
    )
    assert found["AP50-11-frequent"] == pytest.approx(100 * 6 / 11)
