"""labelme's JSON files, valid and broken."""

import json
import os

import pytest
from format_card import read, read_found, recognise, said
from PIL import Image


@pytest.fixture()
def write(tmp_path):
    Image.new("RGB", (200, 100)).save(tmp_path / "a.png")

    def write(*shapes, name="a.json", **changes):
        data = {"imagePath": "a.png", "imageHeight": 100, "imageWidth": 200, "shapes": list(shapes), **changes}
        (tmp_path / name).parent.mkdir(exist_ok=True)
        kept = {key: value for key, value in data.items() if value != "drop"}
        (tmp_path / name).write_text(json.dumps(kept), encoding="utf-8")
        return read(tmp_path, "labelme", {"annotations": os.path.dirname(name) or "."})

    return write


def shape(kind, points, label="cat", **more):
    return {"label": label, "shape_type": kind, "points": points, **more}


BOX = shape("rectangle", [[1, 1], [5, 5]])


def test_every_shape_becomes_its_box(write):
    shapes = [
        shape("rectangle", [[30, 60], [10, 20]], " dog "),
        shape("rectangle", [[30, 20], [10, 20], [10, 60], [30, 60]]),
        shape("polygon", [[1, 2], [9, 5], [4, 8]]),
        shape("circle", [[50, 50], [53, 54]]),
        shape("mask", [[3, 4], [13, 24]], mask="iVBORw0K"),
        shape(None, [["1", 2], [9, 5], [4, 8]]),
        shape("rotation", [[20, 0], [40, 20], [20, 40], [0, 20]]),
    ]
    result = write(*shapes)
    (record,) = result.records
    assert (record["height"], record["width"], record["image_id"], result.problems) == (100, 200, "a.png", [])
    assert [(a["category_id"], a["bbox"]) for a in record["annotations"]] == [
        (1, [10, 20, 30, 60]),
        (0, [10, 20, 30, 60]),
        (0, [1, 2, 9, 8]),
        (0, [45, 45, 55, 55]),
        (0, [3, 4, 13, 24]),
        (0, [1, 2, 9, 8]),
        (0, [0, 0, 40, 40]),
    ]


def test_difficult_shapes_are_crowd(write):
    flags = [
        {"flags": {"difficult": True}},
        {"flags": {"Difficult": "false", "x": True}},
        {"difficult": True},
        {"flags": None},
        {"flags": [1]},
    ]
    (record,) = write(*({**BOX, **flag} for flag in flags)).records
    assert [x["iscrowd"] for x in record["annotations"]] == [1, 0, 1, 0, 0]


PATHS = ["..\\elsewhere\\a.png", "/home/me/a.png", "a.jpg", "C:\\x\\a.bmp", "other.jpg", "", "../../a.png", "a.json"]


@pytest.mark.parametrize("path", [*PATHS, None, 7, "drop"])
def test_the_image_next_to_the_file_is_used_whatever_imagepath_is(write, path):
    result = write(BOX, imagePath=path, imageData="iVBOR")
    assert [record["image_id"] for record in result.records] == ["a.png"] and result.boxes_used == 1


def test_the_image_next_to_the_file_precedes_one_of_the_same_name_elsewhere(write, tmp_path):
    (tmp_path / "one").mkdir()
    Image.new("RGB", (200, 100)).save(tmp_path / "one/a.png")
    assert write(BOX, name="one/a.json").records[0]["image_id"] == "one/a.png"
    assert write(BOX, name="two/b.json").records[0]["image_id"] == "a.png"
    (tmp_path / "one/c.png").write_bytes((tmp_path / "a.png").read_bytes())
    records = write(BOX, name="one/c.json", imagePath="IMG_7.png").records
    assert "c.png" in {os.path.basename(record["image_id"]) for record in records}


@pytest.mark.parametrize(
    ("wrong", "kind", "words"),
    [
        (shape("rectangle", [[1, 1], [5, 5]], "bird"), "CLASSES", "class 'bird'"),
        (shape("rectangle", [[1, 1], [5, 5]], None), "CLASSES", "no name"),
        (shape("rectangle", [[1, 1], [5, 5]], ["cat"]), "CLASSES", "no name"),
        (shape("point", [[1, 1]]), "ANNOTATION", "annotation 2: a point has no box"),
        (shape("linestrip", [[1, 1], [2, 3]]), "ANNOTATION", "annotation 2: a linestrip has no box"),
        (shape("rectangle", [[1, 1], [1, 5]]), "ANNOTATION", "annotation 2: box [1.0, 1.0, 1.0, 5.0] has zero size"),
        (shape("rectangle", [["x", 1], [1, 5]]), "ANNOTATION", "2: points must be at least two pairs of numbers"),
        (shape("rectangle", [[1, 1], [float("nan"), 3], [9, 9]]), "ANNOTATION", "not finite"),
        (shape("circle", [[1, 1]]), "ANNOTATION", "at least two pairs"),
        (shape("circle", [[1, 1], [1, 1]]), "ANNOTATION", "zero size"),
        (shape("circle", [[1, 1], [1, 1e999]]), "ANNOTATION", "not finite"),
        (shape("circle", [[1, 1], [1, 10**400]]), "ANNOTATION", "not finite"),
        (shape("rectangle", [[1, 1, 1], [5, 5, 5]]), "ANNOTATION", "at least two pairs"),
        (shape("rectangle", {"a": 1}), "ANNOTATION", "at least two pairs"),
        ({"label": "cat"}, "ANNOTATION", "got None"),
        ("cat", "ANNOTATION", "a shape must be a mapping"),
        (None, "ANNOTATION", "a shape must be a mapping"),
    ],
)
def test_a_wrong_shape_is_reported_and_the_others_are_kept(write, wrong, kind, words):
    result = write(BOX, wrong, BOX)
    (problem,) = said(result.problems)
    assert problem.startswith(kind) and words in problem and "a.json" in problem
    assert (result.boxes, result.boxes_used) == (3, 2)


def test_a_stated_size_is_compared_with_the_image(write):
    assert "says" not in str(write(BOX).problems)
    assert said(write(BOX, imageWidth=50).problems)[0].startswith("SIZE")
    result = write(BOX, imageHeight=50, imageWidth=100)
    assert said(result.problems)[0].startswith("SCALED")
    assert result.records[0]["annotations"][0]["bbox"] == [2, 2, 10, 10]
    for nothing in (None, 0, -1, "x", float("nan"), 10**30):
        result = write(BOX, imageHeight=nothing)
        assert said(result.problems)[0].startswith("RESIZED") and result.boxes_used == 1
    assert write(BOX, imageHeight="drop", imageWidth="drop").problems == []


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 100_000, '{"shapes": [{"label": "cat', "{}", '{"shapes": 7, "imagePath": "b.png"}']
)
def test_a_broken_file_is_reported_and_the_others_are_kept(write, tmp_path, text):
    Image.new("RGB", (200, 100)).save(tmp_path / "b.png")
    (tmp_path / "b.json").write_text(text, encoding="utf-8")
    result = write(BOX)
    (problem,) = said(result.problems)
    assert problem.startswith("FILE") and "b.json" in problem and result.boxes_used == 1
    found = recognise(tmp_path, "labelme")
    assert found.splits == {"all": [{"annotations": "."}]} and found.refused == []


def test_other_files_are_ignored(write, tmp_path):
    (tmp_path / "instances.json").write_bytes(b'{"images": [], "annotations": [], "categories": []}')
    (tmp_path / "._a.json").write_bytes(b"\0\5")
    os.mkfifo(tmp_path / "pipe.json")
    result = write(BOX)
    assert [line.split()[0] for line in said(result.problems)] == ["FILE"] and "pipe" in said(result.problems)[0]
    assert recognise(tmp_path, "labelme").used == {"a.json"}


def test_shapes_of_a_missing_image_are_counted_and_two_files_of_one_image_are_merged(write):
    result = write(BOX, BOX, name="sub/none.json", imagePath="none.png")
    assert [(p.kind.name, p.boxes, p.images) for p in result.problems] == [("MISSING", 2, 1)]
    write(BOX)
    result = write(shape("rectangle", [[7, 7], [9, 9]]), name="b.json")
    assert [(p.kind.name, p.images) for p in result.problems] == [("MERGED", 1)] and result.boxes_used == 2


def test_folders_are_splits_and_classes_are_sorted(write, tmp_path):
    write({**BOX, "label": "dog"}, name="train/a.json", imagePath="../a.png")
    write({**BOX, "label": "cat "}, shape("point", [[1, 1]], "nose"), name="valid/b.json", imagePath="../a.png")
    found = recognise(tmp_path, "labelme")
    assert found.splits == {"train": [{"annotations": "train"}], "val": [{"annotations": "valid"}]}
    assert found.classes == ["cat", "dog"]
    boxes, _ = read_found(tmp_path, "labelme")
    assert boxes == {"train": {"a.png": [("dog", [1, 1, 5, 5])]}, "val": {"a.png": [("cat", [1, 1, 5, 5])]}}


def test_a_folder_with_only_a_broken_file_is_refused(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train/a.json").write_bytes(b'{"imagePath": "a.png", "shapes": [{"lab')
    (tmp_path / "b.json").write_bytes(b"{")
    (refused,) = recognise(tmp_path, "labelme").refused
    assert (refused.file, refused.split) == ("train/a.json", "train") and "cut off" in refused.reason
    with pytest.raises(ValueError, match="is a file, but a folder"):
        read(tmp_path, "labelme", {"annotations": "b.json"})
