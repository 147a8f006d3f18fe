"""Green boxes have an anchor, red ones have not."""

import numpy as np
from PIL import Image

from retina_plugin.evaluation.coverage import ground_truth
from retina_plugin.report.anchors import COLOURS, worst_sheet


def test_the_worst_image_comes_first_and_in_its_colours(tmp_path):
    records = []
    for i, count in enumerate((1, 2)):
        Image.new("RGB", (80, 60)).save(tmp_path / f"{i}.png")
        annotations = [{"bbox": [5 + 35 * k, 25, 35 + 35 * k, 55], "category_id": 0} for k in range(count)]
        records.append({"file_name": str(tmp_path / f"{i}.png"), "height": 60, "width": 80, "image_id": i, "annotations": annotations})
    truth = ground_truth(records, shortest=120, longest=400)
    picture = worst_sheet(records, truth, np.array([0.9, 0.1, 0.6]), width=160)
    found = {name: (abs(picture.astype(int) - colour) < 8).all(-1) for name, colour in zip(("green", "red"), COLOURS.astype(int), strict=True)}
    assert found["red"][:, :170].any() and not found["red"][:, 170:].any(), "image 1 has the missed box and stands left"
    assert found["green"][:, :170].any() and found["green"][:, 170:].any()
