"""The generated data of the evaluation benchmark, and both implementations of the mapper."""

import numpy as np

from retina_plugin.bench.data_cases import detectron2_mapper, evaluation_data, mapper, plugin_mapper


def test_half_of_the_detections_are_near_a_box_of_their_image():
    truth, rows = evaluation_data(num_images=20, detections_per_image=10)
    assert len(truth["images"]) == 20 and len(truth["annotations"]) == 140 and rows.shape == (200, 7)
    boxes = {i: np.array([x["bbox"] for x in truth["annotations"] if x["image_id"] == i]) for i in range(1, 21)}
    near = [abs(boxes[int(row[0])] - row[1:5]).max(axis=1).min() < 15 for row in rows]
    assert 0.35 < np.mean(near) < 0.65
    assert rows[:, 3:5].min() >= 2 and set(rows[:, 6]) <= set(range(1, 81))


def test_both_mappers_return_the_same_size_and_boxes():
    theirs, ours = (mapper(make)("cpu")() for make in (detectron2_mapper, plugin_mapper))
    assert theirs["image"].shape == ours["image"].shape == (3, 800, 1067)
    assert len(theirs["instances"]) == len(ours["instances"]) == 7
