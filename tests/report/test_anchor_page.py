"""Green boxes have an anchor, red ones have not."""

import numpy as np
from PIL import Image

from retina_plugin.analysis.coverage import ground_truth
from retina_plugin.report.anchor_page import COLOURS, worst_sheet


def test_the_worst_image_comes_first_and_in_its_colours(tmp_path):
    records = []
    for i, count in enumerate((1, 2)):
        Image.new("RGB", (80, 60)).save(tmp_path / f"{i}.png")
        annotations = [{"bbox": [5 + 35 * k, 25, 35 + 35 * k, 55], "category_id": 0} for k in range(count)]
        records.append(
            {
                "file_name": str(tmp_path / f"{i}.png"),
                "height": 60,
                "width": 80,
                "image_id": i,
                "annotations": annotations,
            }
        )
    truth = ground_truth(records, shortest=120, longest=400)
    picture = worst_sheet(records, truth, np.array([0.9, 0.1, 0.6]), width=160)
    found = {
        name: (abs(picture.astype(int) - colour) < 8).all(-1)
        for name, colour in zip(("green", "red"), COLOURS.astype(int), strict=True)
    }
    assert found["red"][:-22].any() and picture.shape[1] == 166, "image 1 has the missed box; image 0 is not shown"
    assert found["green"][:, :170].any()


def records_with(tmp_path, counts):
    for i in range(len(counts)):
        Image.new("RGB", (80, 60)).save(tmp_path / f"{i}.png")
    box = {"bbox": [5, 5, 65, 55], "category_id": 0}
    return [
        {
            "file_name": str(tmp_path / f"{i}.png"),
            "height": 60,
            "width": 80,
            "image_id": i,
            "annotations": [box] * count,
        }
        for i, count in enumerate(counts)
    ]


def test_images_where_every_box_has_an_anchor_are_not_shown_unless_all_do(tmp_path):
    records = records_with(tmp_path, [1, 1, 2, 1])
    truth = ground_truth(records, shortest=60, longest=400)
    some = worst_sheet(records, truth, np.array([0.9, 0.1, 0.2, 0.9, 0.9]), width=160)
    none = worst_sheet(records, truth, np.array([0.9, 0.8, 0.7, 0.9, 0.9]), width=160)
    assert some.shape[1] == 2 * 166 and none.shape[1] == 166


def test_an_image_without_boxes_does_not_stop_it(tmp_path):
    records = records_with(tmp_path, [0, 1])
    assert worst_sheet(records, ground_truth(records, shortest=60, longest=400), np.array([0.3]), width=160).size
