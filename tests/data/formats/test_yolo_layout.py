"""Layouts of YOLO datasets."""

import pytest
from PIL import Image

from retina_plugin.data.files import Listing
from retina_plugin.data.formats.yolo_layout import layout_of


@pytest.fixture()
def pets(tmp_path):
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (tmp_path / kind / split).mkdir(parents=True)
        for i in range(2):
            Image.new("RGB", (64, 48)).save(tmp_path / f"images/{split}/{split}{i}.png")
            (tmp_path / f"labels/{split}/{split}{i}.txt").write_bytes(b"0 0.5 0.5 0.2 0.2\n")
    return tmp_path


def layout(root, text=None):
    if text is not None:
        (root / "data.yaml").write_text(text, encoding="utf-8")
    return layout_of(Listing(root))


PLACES = "train: images/train\nval: images/val\n"


@pytest.mark.parametrize(
    ("names", "classes", "ids"),
    [
        ("[cat, dog]", ["cat", "dog"], None),
        ("{0: cat, 1: dog}", ["cat", "dog"], None),
        ("{1: cat, 2: dog}", ["cat", "dog"], [1, 2]),
        ("{'3': cat, '0': dog}", ["dog", "cat"], [0, 3]),
        ("[yes, no, 007]", ["yes", "no", "007"], None),
        ("\"['cat', 'dog']\"", ["cat", "dog"], None),
    ],
)
def test_names_are_a_list_or_a_mapping(pets, names, classes, ids):
    found = layout(pets, f"{PLACES}names: {names}\n")
    assert found.classes == classes
    assert {split: sources[0].get("ids") for split, sources in found.splits.items()} == {"train": ids, "val": ids}


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("5", "list or a mapping"),
        ("[a, a]", "twice"),
        ("{x: a}", "whole numbers"),
        ("[[a]]", "texts"),
        ("[]", "texts"),
        ("{-1: a}", "whole numbers"),
        ("{.inf: a}", "whole numbers"),
        ("{1: a, '1': b}", "twice"),
    ],
)
def test_wrong_names_are_refused(pets, names, words):
    found = layout(pets, f"{PLACES}names: {names}\n")
    (refused,) = found.refused
    assert found.splits == {} and words in refused.reason and refused.file == "data.yaml"


@pytest.mark.parametrize(
    ("text", "splits"),
    [
        ("train: [images/train]\nval: images/val\nnames: [cat]", {"train", "val"}),
        ("path: ../datasets/pets\ntrain: images/train\nvalid: images/val\nnames: [cat]", {"train", "val"}),
        ("train: D:\\x\\images\\train\\\nval: D:\\x\\images\\val\\\nnames: [cat]", {"train", "val"}),
        ("train: images\nval: images\nnames: [cat]", {"all"}),
        ("train: images/train\nval: images/val\ntest: # none\nnames: [cat]", {"train", "val"}),
        ("train: images/train\nval: gone/val2\nnames: [cat]", {"train"}),
    ],
)
def test_paths_of_a_data_yaml(pets, text, splits):
    found = layout(pets, text)
    assert set(found.splits) == splits, found
    assert bool(found.refused) == ("gone" in text)


def test_a_missing_path_is_not_replaced(pets):
    found = layout(pets, "train: gone/one\nval: images/val\nnames: [cat]")
    assert found.splits == {} and "gone/one" in found.refused[0].reason
    found = layout(pets, "train: a/images\nval: b/images\nnames: [cat]")
    assert found.splits == {} and "only one exists" in found.refused[0].reason


def test_a_broken_data_yaml_is_refused_and_nothing_is_guessed(pets):
    found = layout(pets, f"{PLACES}names: [cat\n")
    assert found.splits == {} and "looks like YOLO's data.yaml" in found.refused[0].reason


def test_without_a_data_yaml_the_folders_are_the_splits(pets):
    found = layout(pets)
    places = {split: [source["images"] for source in sources] for split, sources in found.splits.items()}
    assert places == {"train": ["images/train"], "val": ["images/val"]} and found.classes == ["0"]
    (pets / "classes.txt").write_bytes(b"\xef\xbb\xbfcat\r\ndog\r\n")
    assert layout(pets).classes == ["cat", "dog"]


def test_other_text_files_are_not_labels(tmp_path):
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_bytes(b"This is a description of a picture, nothing more.\n")
    assert layout(tmp_path).splits == {}
