"""JSON of VGG Image Annotator, sound and broken."""

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
        (tmp_path / file).write_text(
            json.dumps(
                wrap({"a.png12": {"filename": "a.png", "size": 12, "regions": regions, "file_attributes": {}}, **more})
            )
        )
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
def test_projects_and_annotations_of_version_1_and_2(write, wrap, regions):
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
    "attributes, name",
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
def test_the_class_is_the_attribute_that_is_called_so_or_the_first_text(write, attributes, name):
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


@pytest.mark.parametrize(
    "wrong, kind, words",
    [
        (region({"name": "point", "cx": 1, "cy": 1}, label="cat"), "ANNOTATION", "annotation 2: a point has no box"),
        (
            region({"name": "polyline", "all_points_x": [1, 2], "all_points_y": [3, 4]}, label="cat"),
            "ANNOTATION",
            "a polyline has no box",
        ),
        (
            region({"name": "rect", "x": 1, "y": 2, "width": None, "height": 3}, label="cat"),
            "ANNOTATION",
            "rect must have the numbers x, y, width, height",
        ),
        (
            region({"name": "rect", "x": 1, "y": 2, "width": -4, "height": 3}, label="cat"),
            "ANNOTATION",
            "corners swapped",
        ),
        (
            region({"name": "polygon", "all_points_x": [1, 2], "all_points_y": [3]}, label="cat"),
            "ANNOTATION",
            "as many numbers",
        ),
        (
            region({"name": "polygon", "all_points_x": [1, "x"], "all_points_y": [3, 4]}, label="cat"),
            "ANNOTATION",
            "as many numbers",
        ),
        (
            region({"name": "polygon", "all_points_x": [1, float("nan"), 9], "all_points_y": [3, 4, 9]}, label="cat"),
            "ANNOTATION",
            "not finite",
        ),
        (
            region({"name": "ellipse", "cx": 9, "cy": 9, "rx": 3, "ry": 3, "theta": 1e999}, label="cat"),
            "ANNOTATION",
            "not finite",
        ),
        (region({"name": ["rect"]}, label="cat"), "ANNOTATION", "must be rect, polygon"),
        (region({}, label="cat"), "ANNOTATION", "must have shape_attributes"),
        (region(label={"cat": True, "dog": True}), "ANNOTATION", "label has 2 values, cat, dog, where one"),
        (region(label="bird"), "CLASSES", "class 'bird'"),
        (region(colour="red"), "CLASSES", "no name"),
        (region(label=["cat"]), "CLASSES", "no name"),
        ({"region_attributes": {"label": "cat"}}, "ANNOTATION", "must have shape_attributes"),
        ("cat", "ANNOTATION", "must have shape_attributes"),
        (None, "ANNOTATION", "must have shape_attributes"),
    ],
)
def test_a_wrong_region_is_named_and_the_others_stay(write, wrong, kind, words):
    result = read(write([CAT, wrong, CAT]), "via", {"annotations": "via.json"})
    (problem,) = said(result.problems)
    assert (
        problem.startswith(kind)
        and words in problem
        and "via.json" in problem
        and (result.boxes, result.boxes_used) == (3, 2)
    )


def test_wrong_entries_are_named_and_the_others_stay(write):
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


def test_splits_by_name(write, tmp_path):
    write([region(label="dog")], file="via_train.json")
    write([CAT], file="val.json")
    found = recognise(tmp_path, "via")
    assert (
        set(found.splits) == {"train", "val"}
        and found.classes == ["cat", "dog"]
        and found.used == {"via_train.json", "val.json"}
    )


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
def test_other_files_are_passed_over(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    os.mkfifo(tmp_path / "pipe.json")
    found = recognise(tmp_path, "via")
    assert (found.splits, found.refused, found.unused) == ({}, [], {})
    with pytest.raises(ValueError):
        read(tmp_path, "via", {"annotations": "x.json"})


def test_what_is_of_via_and_cannot_be_read_is_named(tmp_path):
    (tmp_path / "cut_train.json").write_text('{"_via_img_metadata": {"a.png12": {"filename": "a.p')
    (tmp_path / "empty.json").write_text('{"_via_img_metadata": {}}')
    (tmp_path / "three.json").write_text(
        '{"project": {"pid": "x"}, "config": {}, "attribute": {}, "file": {}, "metadata": {}, "view": {}}'
    )
    found = recognise(tmp_path, "via")
    assert [(r.file, r.split) for r in found.refused] == [("cut_train.json", "train"), ("three.json", None)]
    assert (
        "cut off" in found.refused[0].reason
        and "VIA 3" in found.refused[1].reason
        and list(found.unused) == ["empty.json"]
    )
