"""Facts about a dataset, by hand and of the bundled digits."""

import json

import cv2
import numpy as np
import pytest

from retina_plugin.data.strangers_files import ImageError
from retina_plugin.plan.fingerprint import fingerprint_of


def record(boxes, labels=None, size=(100, 200), name="a.png"):
    labels = labels or [0] * len(boxes)
    annotations = [{"bbox": box, "category_id": k, "iscrowd": 0} for box, k in zip(boxes, labels, strict=True)]
    return {"file_name": name, "height": size[0], "width": size[1], "annotations": annotations}


def test_facts_by_hand():
    crowd = {"bbox": [0, 0, 90, 90], "category_id": 1, "iscrowd": 1}
    first = record([[0, 0, 10, 40], [50, 50, 70, 70]], [1, 0])
    first["annotations"].append(crowd)
    train = [first, record([], size=(50, 60)), record([[0, 0, 20, 20]], [1], size=(300, 400))]
    facts = fingerprint_of(train, ["cat", "dog"], others=[[record([[0, 0, 9, 9]] * 7)]])
    # 100 x 200 px has the median number of pixels; the sizes are 20 px of 100, 100 and 300 px.
    assert (facts.images, facts.height, facts.width, facts.empty) == (3, 100, 200, 1 / 3)
    assert facts.shares[2] == 0.2 and facts.shares[0] == pytest.approx(0.2 - 0.9 * (0.2 - 20 / 300), abs=1e-5)
    assert (facts.smallest, facts.largest) == ((50, 60), (300, 400))
    assert (facts.objects, facts.most, facts.val_images) == (3, 7, 1)
    assert facts.classes == {"dog": 2, "cat": 1} and facts.images_with == {"dog": 2, "cat": 1}
    # all three boxes have an area of 400 px; the first is 4 times as high as wide
    assert facts.sides == (20,) * 5 and facts.ratios[4] == pytest.approx(1 + 0.9 * 3)
    assert facts.per_image[2] == 1.5 and facts.brightness is None and facts.symmetry == {}
    assert json.loads(facts.json())["classes"] == {"dog": 2, "cat": 1}


def test_crowded_objects_are_those_of_one_class_that_overlap():
    # The first two share 16 x 20 of 2 * 400 - 320 px: IoU 0.67. The third lies on them, but is of another class.
    boxes = [[0, 0, 20, 20], [4, 0, 24, 20], [2, 0, 22, 20], [100, 0, 120, 20]]
    facts = fingerprint_of([record(boxes, [0, 0, 1, 0])], ["a", "b"])
    assert facts.crowded == 0.5


def test_without_objects_there_is_nothing_to_plan():
    with pytest.raises(ValueError, match="2 images without an object"):
        fingerprint_of([record([]), record([])], ["a"])


def photo(seed):
    rng = np.random.default_rng(seed)
    return cv2.resize(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8), (200, 100), interpolation=cv2.INTER_CUBIC)


def test_near_duplicates_and_leaks_are_found():
    images = {f"{i}.png": photo(i) for i in range(6)}
    images["1.png"] = cv2.convertScaleAbs(images["0.png"], alpha=0.9, beta=10)  # brighter, otherwise the same
    images["v.png"] = cv2.GaussianBlur(images["3.png"], (5, 5), 0)
    train = [record([[0, 0, 50, 50]], name=f"{i}.png") for i in range(6)]
    val = [record([[0, 0, 50, 50]], name=name) for name in ("v.png", "4.png")]
    images["4.png"] = photo(40)
    train[4]["file_name"] = "missing.png"

    def read(name):
        if name not in images:
            raise ImageError(name, "is gone")
        return images[name]

    facts = fingerprint_of(train, ["a"], others=[val], read=read)
    assert facts.alike == pytest.approx(2 / 5), "0 and 1, of the five that can be read"
    assert facts.val_alike == 0.5, "v is a blurred 3"
    assert facts.grey == 0 and 50 < facts.brightness < 200 and facts.contrast > 20


def test_grey_images_and_reduced_ones():
    grey = cv2.cvtColor(cv2.cvtColor(photo(0), cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    train = [record([[0, 0, 100, 100]] * 3)] * 2
    facts = fingerprint_of(train, ["a"], read=lambda _: cv2.resize(grey, (100, 50)))
    assert facts.grey == 1 and facts.symmetry["mirrored"].objects == 6, "boxes are reduced with their image"


def test_tiny_images_are_looked_at_too():
    facts = fingerprint_of([record([[0, 0, 1, 1]], size=(1, 1))], ["a"], read=lambda _: np.zeros((1, 1, 3), np.uint8))
    assert facts.sides == (1,) * 5 and facts.symmetry == {}
