"""The bundled dataset: complete, reproducible, and without leaks between splits."""

import json

import cv2
import numpy as np
import pytest

from detectron2.data import DatasetCatalog

from retina_plugin.data import digits


def test_the_same_seed_produces_the_same_files(digits_root, tmp_path):
    again = tmp_path / "digits"
    digits.generate_digits(again, splits={"train": 8, "val": 4})
    files = sorted(p.relative_to(digits_root) for p in digits_root.rglob("*") if p.is_file())
    assert len(files) == 8 + 4 + 2
    assert all((digits_root / f).read_bytes() == (again / f).read_bytes() for f in files)


def test_a_different_seed_produces_different_files(digits_root, tmp_path):
    digits.generate_digits(tmp_path / "digits", splits={"val": 1}, seed=1)
    assert (tmp_path / "digits/val/000000.png").read_bytes() != (digits_root / "val/000000.png").read_bytes()


@pytest.mark.parametrize("split", ["train", "val"])
def test_boxes_are_inside_the_image_of_the_stated_size_and_do_not_overlap(digits_root, split):
    data = json.loads((digits_root / f"instances_{split}.json").read_text())
    assert [c["name"] for c in data["categories"]] == [str(d) for d in range(10)]
    for image in data["images"]:
        boxes = np.array([a["bbox"] for a in data["annotations"] if a["image_id"] == image["id"]])
        assert len(boxes) >= 1
        assert (boxes[:, :2] >= 0).all() and (boxes[:, :2] + boxes[:, 2:] <= digits.IMAGE_SIZE).all()
        longer_sides, (least, most) = boxes[:, 2:].max(axis=1), digits.DIGIT_SIZE
        assert longer_sides.min() >= least - 1 and longer_sides.max() <= most + 1
        count = np.zeros((digits.IMAGE_SIZE, digits.IMAGE_SIZE), int)
        for x, y, w, h in boxes:
            count[y : y + h, x : x + w] += 1
        assert count.max() == 1
        pixels = cv2.imread(str(digits_root / split / image["file_name"]))
        assert pixels.shape == (digits.IMAGE_SIZE, digits.IMAGE_SIZE, 3)


def test_the_digits_of_val_never_occur_in_train(monkeypatch, tmp_path):
    pools = []

    def draw(rng, photos, scans, pool):
        pools.append(set(pool))
        return np.zeros((4, 4, 3), np.uint8), [], []

    monkeypatch.setattr(digits, "_draw_image", draw)
    digits.generate_digits(tmp_path / "digits", splits={"train": 1, "val": 1})
    train, val = pools
    assert len(val) == digits.VAL_DIGITS and len(train) + len(val) == 1797 and not train & val


def test_the_box_fits_the_ink():
    from sklearn.datasets import load_digits

    mask = digits._enlarge(load_digits().images[0], 40)
    assert max(mask.shape) == 40
    edges = [mask[0], mask[-1], mask[:, 0], mask[:, -1]]
    assert all(edge.max() > 0.1 for edge in edges)


def test_it_is_generated_on_first_use(monkeypatch, tmp_path):
    monkeypatch.setattr(digits, "SPLITS", {"train": 2, "val": 1})
    monkeypatch.setattr(digits.generate_digits, "__kwdefaults__", {"splits": {"train": 2, "val": 1}, "seed": 0})
    monkeypatch.setenv("RETINA_ROOT_DIGITS", str(tmp_path / "new/digits"))
    assert len(DatasetCatalog.get("digits_train")) == 2
    assert not list((tmp_path / "new").glob("*.tmp"))
