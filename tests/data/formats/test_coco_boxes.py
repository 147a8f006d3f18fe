"""Boxes of COCO annotations from a bbox, polygons and masks; whole files are tested in test_coco.py."""

import numpy as np
import pytest
from pycocotools import mask as masks

from retina_plugin.data.formats.coco_boxes import box_of_annotation

POLYGON = [[4, 4, 24, 4, 24, 24]]
WRONG_MASKS = [
    {"counts": [600]},
    {"size": [20, 30]},
    {"size": [20, 30], "counts": [599]},
    {"size": [20, 30], "counts": [-1, 601]},
    {"size": [20, 0], "counts": [0]},
    {"size": [10**6, 10**6], "counts": [10**12]},
    {"size": [20, 30], "counts": "~"},
    {"size": [20, 30], "counts": "0"},
    {"size": [20, 30], "counts": 7},
]


@pytest.mark.parametrize(
    ("annotation", "box"),
    [
        ({"bbox": [10, 20, 30, 40]}, [10, 20, 40, 60]),
        ({"bbox": [1.5, 2.5, 3.0, 4.0]}, [1.5, 2.5, 4.5, 6.5]),
        ({"bbox": ["10", 20, 30.0, 40]}, [10, 20, 40, 60]),
        ({"bbox": {"x": 10, "y": 20, "width": 30, "height": 40}}, [10, 20, 40, 60]),
        ({"bbox": [], "segmentation": POLYGON}, [4, 4, 24, 24]),
        ({"bbox": [1, 2, 3, 4], "segmentation": POLYGON}, [1, 2, 4, 6]),
    ],
)
def test_boxes(annotation, box):
    assert box_of_annotation(annotation) == box


def test_a_mask_becomes_the_box_around_it_compressed_or_not():
    """Columns 5..7 and rows 2..11 of 20x30: x 5..8, y 2..12."""
    mask = np.zeros((20, 30), np.uint8)
    mask[2:12, 5:8] = 1
    compressed = masks.encode(np.asfortranarray(mask))["counts"].decode()
    runs = [5 * 20 + 2, 10, 10, 10, 10, 10, 22 * 20 + 8]
    for counts in (compressed, runs):
        assert box_of_annotation({"segmentation": {"size": [20, 30], "counts": counts}}) == [5, 2, 8, 12]


@pytest.mark.parametrize("mask", WRONG_MASKS)
def test_a_mask_that_does_not_fit_its_size_is_refused(mask):
    assert "must be a run-length mask with size and counts" in box_of_annotation({"segmentation": mask})


def test_what_is_wrong_is_described():
    assert "four numbers [x, y, width, height], got None" in box_of_annotation({})
    assert "segmentation must be polygons, got [[1, 2]]" in box_of_annotation({"segmentation": [[1, 2]]})
