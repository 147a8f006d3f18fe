"""Pictures of boxes with an anchor (green) and without one (red)."""

import numpy as np
from PIL import Image

from retina_plugin.analysis.coverage import ground_truth
from retina_plugin.report.anchor_page import COLOURS, MATCHED, MISSED, worst_sheet


def is_colour(picture, k):
    """Return where (H, W) a picture (H, W, 3) has about the colour k."""
    return (abs(picture.astype(int) - COLOURS[k].astype(int)) < 8).all(-1)


def records_with(folder, counts):
    """Return records of black images with so many boxes side by side."""
    records = []
    for i, count in enumerate(counts):
        Image.new("RGB", (80, 60)).save(folder / f"{i}.png")
        record = {"file_name": str(folder / f"{i}.png"), "height": 60, "width": 80, "image_id": i}
        boxes = [[5 + 35 * k, 25, 35 + 35 * k, 55] for k in range(count)]
        records.append({**record, "annotations": [{"bbox": box, "category_id": 0} for box in boxes]})
    return records


def test_only_the_image_with_a_missed_box_is_drawn_in_both_colours(tmp_path):
    records = records_with(tmp_path, [1, 2])
    truth = ground_truth(records, shortest=120, longest=400)
    picture = worst_sheet(records, truth, np.array([0.9, 0.1, 0.6]), width=160)
    assert picture.shape[1] == 166, "one picture of 160 pixels and a gap of 6"
    # Scale 2: image 1 has a missed box from x = 10 and a matched one from x = 80, both from y = 50 to 110.
    sides = {MISSED: 6 + 10, MATCHED: 6 + 80}
    assert all(is_colour(picture, k)[6 + 60 : 6 + 100, x].all() for k, x in sides.items())


def test_images_with_all_boxes_matched_are_drawn_only_if_there_are_no_others(tmp_path):
    records = records_with(tmp_path, [1, 1, 2, 1])
    truth = ground_truth(records, shortest=60, longest=400)
    some = worst_sheet(records, truth, np.array([0.9, 0.1, 0.2, 0.9, 0.9]), width=160)
    none = worst_sheet(records, truth, np.array([0.9, 0.8, 0.7, 0.9, 0.9]), width=160)
    assert some.shape[1] == 2 * 166 and none.shape[1] == 166


def test_image_without_boxes_is_not_drawn(tmp_path):
    records = records_with(tmp_path, [0, 1])
    picture = worst_sheet(records, ground_truth(records, shortest=60, longest=400), np.array([0.3]), width=160)
    assert picture.shape[1] == 166 and is_colour(picture, MISSED)[6 + 60 : 6 + 100, 6 + 10].all()
