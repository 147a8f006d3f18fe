"""JSON of VGG Image Annotator, valid and broken."""

import json
import os

import pytest
from format_card import read, read_found, recognise, said
from PIL import Image

RECT = {"name": "rect", "x": 10, "y": 20, "width": 20, "height": 40}


def region(shape=RECT, **attributes):
    return {"shape_attributes": shape, "region_attributes": attributes}


CAT = region(label="cat")


@pytest.fixture()
def write(tmp_path):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (200, 100)).save(tmp_path / name)

    def write(regions, file="via.json", wrap=lambda entries: entries, **more):
        first = {"filename": "a.png", "size": 12, "regions": regions, "file_attributes": {}}
        (tmp_path / file).write_text(json.dumps(wrap({"a.png12": first, **more})), encoding="utf-8")
        return tmp_path

    return write


def entry(name, *regions):
    return {"filename": name, "size": 1, "regions": list(regions), "file_attributes": {}}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda e: e,
        lambda e: {"_via_settings": {}, "_via_img_metadata": e, "_via_attributes": {}},
        lambda e: {"_via_img_metadata": e, "_via_data_format_version": "2.0.10"},
    ],
)
@pytest.mark.parametrize("regions", [[CAT], {"0": CAT}])
def test_projects_and_annotations_of_versions_1_and_2(write, wrap, regions):
    boxes, problems = read_found(write(regions, wrap=wrap, b=entry("b.png")), "via")
    assert boxes == {"all": {"a.png": [("cat", [10, 20, 30, 60])], "b.png": []}} and problems == []


def test_every_shape_with_an_area_becomes_its_box(write):
    shapes = [
        {"name": "polygon", "all_points_x": [1, 9, 4], "all_points_y": [2, 5, 8]},
        {"name": "circle", "cx": 50, "cy": 50, "r": 5},
        {"name": "ellipse", "cx": 50, "cy": 50, "rx": 20, "ry": 10},
        {"name": "ellipse", "cx": 50, "cy": 50, "rx": 20, "ry": 10, "theta": 1.5707963267948966},
        {"name": "rect", "x": "10", "y": "20", "width": "20", "height": 40.0},
    ]
    boxes, problems = read_found(write([region(s, label="cat") for s in shapes]), "via")
    want = [[1, 2, 9, 8], [45, 45, 55, 55], [30, 40, 70, 60], [40, 30, 60, 70], [10, 20, 30, 60]]
    assert [box for _, box in boxes["all"]["a.png"]] == [pytest.approx(box) for box in want] and problems == []


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        ({"colour": "red", "class": "dog"}, "dog"),
        ({"colour": "red", "Species": " dog\n"}, "dog"),
        ({"animal": "dog", "colour": "red"}, "dog"),
        ({"tick": {"dog": True, "cat": False}}, "dog"),
        ({"tick": {}, "animal": {"dog": True}}, "dog"),
        ({"name": "", "animal": "dog"}, "dog"),
        ({"class": 7}, "7"),
        ({}, "object"),
    ],
)
def test_the_class_is_the_attribute_with_a_known_name_or_the_first_text(write, attributes, name):
    folder = write([region(**attributes)])
    boxes, problems = read_found(folder, "via")
    assert boxes["all"]["a.png"] == [(name, [10, 20, 30, 60])] and problems == []
    assert ("class_attribute" in recognise(folder, "via").splits["all"][0]) == (len(attributes) > 1)


def test_a_card_may_name_the_attribute_and_the_only_class(write):
    folder = write([region(colour="red", label="x")])
    assert read(folder, "via", {"annotations": "via.json", "class_attribute": "colour"}, ["red"]).boxes_used == 1
    assert read(write([region()]), "via", {"annotations": "via.json"}, ["balloon"]).boxes_used == 1
    with pytest.raises(ValueError, match="class_attribute must be"):
        read(folder, "via", {"annotations": "via.json", "class_attribute": ["colour"]})


WRONG_SHAPES = {
    "a point has no box": {"name": "point", "cx": 1, "cy": 1},
    "a polyline has no box": {"name": "polyline", "all_points_x": [1, 2], "all_points_y": [3, 4]},
    "rect must have the numbers x, y, width": {"name": "rect", "x": 1, "y": 2, "width": None, "height": 3},
    "corners swapped": {"name": "rect", "x": 1, "y": 2, "width": -4, "height": 3},
    "as many numbers": {"name": "polygon", "all_points_x": [1, 2], "all_points_y": [3]},
    "polygon must have": {"name": "polygon", "all_points_x": [1, "x"], "all_points_y": [3, 4]},
    "not finite": {"name": "polygon", "all_points_x": [1, float("nan"), 9], "all_points_y": [3, 4, 9]},
    "values that are not finite": {"name": "ellipse", "cx": 9, "cy": 9, "rx": 3, "ry": 3, "theta": 1e999},
}
"""What is reported, and the shape."""


@pytest.mark.parametrize(
    ("wrong", "kind", "words"),
    [
        *((region(shape, label="cat"), "ANNOTATION", words) for words, shape in WRONG_SHAPES.items()),
        (region({"name": ["rect"]}, label="cat"), "ANNOTATION", "must be rect, polygon"),
        (region({}, label="cat"), "ANNOTATION", "must have shape_attributes"),
        (region(label={"cat": True, "dog": True}), "ANNOTATION", "label has 2 values, cat, dog, but one"),
        (region(label="bird"), "CLASSES", "class 'bird'"),
        (region(colour="red"), "CLASSES", "no name"),
        (region(label=["cat"]), "CLASSES", "no name"),
        ({"region_attributes": {"label": "cat"}}, "ANNOTATION", "must have shape_attributes"),
        ("cat", "ANNOTATION", "must have shape_attributes"),
        (None, "ANNOTATION", "must have shape_attributes"),
    ],
)
def test_a_wrong_region_is_reported_and_the_others_are_kept(write, wrong, kind, words):
    result = read(write([CAT, wrong, CAT]), "via", {"annotations": "via.json"})
    (problem,) = said(result.problems)
    assert problem.startswith(kind) and words in problem and "via.json" in problem
    assert (result.boxes, result.boxes_used) == (3, 2)


def test_wrong_entries_are_reported_and_the_others_are_kept(write):
    folder = write(
        [CAT],
        x=entry("none.png", CAT, "y"),
        y=entry("a.png", region({**RECT, "x": 1}, label="dog")),
        z={"filename": "b.png"},
        b=entry("b.png", CAT),
        n=entry(None, CAT),
    )
    result = read(folder, "via", {"annotations": "via.json"})
    assert [(p.kind.name, p.boxes, p.images) for p in result.problems] == [
        ("MISSING", 2, 1),
        ("MERGED", 0, 1),
        ("ANNOTATION", 0, 1),
        ("MISSING", 1, 1),
    ]
    assert {r["image_id"]: len(r["annotations"]) for r in result.records} == {"a.png": 2, "b.png": 1}


def test_splits_by_the_names_of_files(write, tmp_path):
    write([region(label="dog")], file="via_train.json")
    write([CAT], file="val.json")
    found = recognise(tmp_path, "via")
    assert set(found.splits) == {"train", "val"} and found.classes == ["cat", "dog"]
    assert found.used == {"via_train.json", "val.json"}


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        "7",
        "{",
        "[" * 100_000,
        '{"a": {"filename": "a.png"}}',
        '{"a": {"filename": "a.png", "regions": []}, "b": 1, "c": 2}',
        '{"images": [], "annotations": [], "categories": []}',
        "\0",
        '{"shapes": [], "imagePath": "a.png"}',
    ],
)
def test_other_files_are_ignored_in_a_folder_and_refused_in_a_card(tmp_path, text):
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    os.mkfifo(tmp_path / "pipe.json")
    found = recognise(tmp_path, "via")
    assert (found.splits, found.refused, found.unused) == ({}, [], {})
    with pytest.raises(ValueError):
        read(tmp_path, "via", {"annotations": "x.json"})


def test_unreadable_files_of_via_are_refused(tmp_path):
    (tmp_path / "cut_train.json").write_bytes(b'{"_via_img_metadata": {"a.png12": {"filename": "a.p')
    (tmp_path / "empty.json").write_bytes(b'{"_via_img_metadata": {}}')
    three = b'{"project": {"pid": "x"}, "config": {}, "attribute": {}, "file": {}, "metadata": {}, "view": {}}'
    (tmp_path / "three.json").write_bytes(three)
    found = recognise(tmp_path, "via")
    cut, project = found.refused
    assert (cut.file, cut.split, project.file, project.split) == ("cut_train.json", "train", "three.json", None)
    assert "cut off" in cut.reason and "VIA 3" in project.reason and list(found.unused) == ["empty.json"]
