"""Parts of the data: ranges with equal numbers, texts; their numbers add up, and small objects are found less often."""

import numpy as np
import pytest
from planted import random_detections

from retina_plugin.analysis.diagnosis import diagnose
from retina_plugin.analysis.slices import crowding_of, parts_of


def test_slices_add_up_and_the_smallest_objects_are_found_less_often():
    detections = random_detections()
    small = np.array([x["area"] < 700 for x in detections.coco["annotations"]])
    images = {x["image_id"] for x, is_small in zip(detections.coco["annotations"], small, strict=True) if is_small}
    detections.rows = detections.rows[~np.isin(detections.rows[:, 0], list(images))]
    found = diagnose(
        detections, properties={"camera": {i: "north" if i % 2 else "south" for i in range(1, 61)}}, samples=0
    )
    by = {}
    for x in found.slices:
        by.setdefault(x.by, []).append(x)
    assert [x.name for x in by["camera"]] == ["north", "south"] and sum(x.images for x in by["camera"]) == 60
    assert (
        sum(x.images for x in by["size of the object, px"])
        == len(small)
        == sum(x.images for x in by["width / height of the object"])
    )
    recalls = [x.recall for x in by["size of the object, px"]]
    assert recalls[0] < recalls[-1]


@pytest.mark.parametrize(
    "values, parts",
    [
        ({}, {}),
        ({1: 2, 2: 2}, {"2": [1, 2]}),
        ({i: i for i in range(9)}, {"0 to 2": [0, 1, 2], "3 to 5": [3, 4, 5], "6 to 8": [6, 7, 8]}),
    ],
)
def test_parts(values, parts):
    assert parts_of(values) == parts


def test_crowding_counts_objects_and_leaves_out_empty_images():
    detections = random_detections()
    counts = crowding_of(detections)
    assert sum(counts.values()) == len(detections.coco["annotations"]) and min(counts.values()) >= 1
    detections.coco["annotations"][0]["iscrowd"] = 1
    assert sum(crowding_of(detections).values()) == len(detections.coco["annotations"]) - 1
