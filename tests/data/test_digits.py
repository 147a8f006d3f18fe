"""The bundled dataset: complete, reproducible, and without leaks between splits."""

import functools
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


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """A few images of every bundled dataset, by the name of its generator."""
    folder = tmp_path_factory.mktemp("bundled")
    for name, layout in LAYOUTS.items():
        digits.generate_digits(folder / name, layout=layout, splits={"train": 12, "val": 4})
    return folder


LAYOUTS = {"digits": digits.DIGITS, "digits_dense": digits.DIGITS_DENSE, "digits_few": digits.DIGITS_FEW}


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_boxes_are_inside_the_image_of_the_stated_size_and_do_not_overlap(roots, name, split):
    root, layout = roots / name, LAYOUTS[name]
    data = json.loads((root / f"instances_{split}.json").read_text())
    assert [c["name"] for c in data["categories"]] == [str(d) for d in range(10)]
    empty = 0
    for image in data["images"]:
        boxes = np.array([a["bbox"] for a in data["annotations"] if a["image_id"] == image["id"]])
        pixels = cv2.imread(str(root / split / image["file_name"]))
        assert pixels.shape == (layout.image_size, layout.image_size, 3)
        if not len(boxes):
            empty += 1
            continue
        assert (boxes[:, :2] >= 0).all() and (boxes[:, :2] + boxes[:, 2:] <= layout.image_size).all()
        longer_sides, (least, most) = boxes[:, 2:].max(axis=1), layout.digit_size
        assert longer_sides.min() >= least - 1 and longer_sides.max() <= most + 1
        assert len(boxes) <= layout.digits_an_image[1]
        count = np.zeros((layout.image_size, layout.image_size), int)
        for x, y, w, h in boxes:
            count[y : y + h, x : x + w] += 1
        assert count.max() == 1
    assert bool(empty) is (layout.empty > 0)


def test_dense_digits_lie_in_clusters_and_few_digits_are_unbalanced(roots):
    data = json.loads((roots / "digits_dense/instances_train.json").read_text())
    counts = [sum(a["image_id"] == image["id"] for a in data["annotations"]) for image in data["images"]]
    assert min(counts) > 50 and max(counts) <= 200
    boxes = np.array([a["bbox"][:2] for a in data["annotations"] if a["image_id"] == 1])
    nearest = np.sort(np.abs(boxes[:, None] - boxes[None]).max(axis=2), axis=1)[:, 1]
    spread = 1024 / np.sqrt(len(boxes))  # of a grid of as many places
    assert np.median(nearest) < 0.6 * spread
    few = json.loads((roots / "digits_few/instances_train.json").read_text())["annotations"]
    low, high = (sum(a["category_id"] <= 5 for a in few), sum(a["category_id"] > 5 for a in few))
    assert low > 2 * high


def test_the_digits_of_val_never_occur_in_train(monkeypatch, tmp_path):
    pools = []

    def draw(rng, photos, scans, pool, layout):
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


@pytest.mark.parametrize("name", LAYOUTS)
def test_it_is_generated_on_first_use(monkeypatch, tmp_path, name):
    small = functools.partial(digits.generate_digits, layout=LAYOUTS[name], splits={"train": 2, "val": 1})
    monkeypatch.setitem(digits.GENERATORS, name, small)
    monkeypatch.setenv(f"RETINA_ROOT_{name.upper()}", str(tmp_path / "new" / name))
    assert len(DatasetCatalog.get(f"{name}_train")) == 2
    assert not list((tmp_path / "new").glob("*.tmp"))
