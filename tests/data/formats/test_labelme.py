"""labelme's JSON files, sound and broken."""

import json

import pytest
from PIL import Image

from retina_plugin.data.formats.labelme import read_labelme


@pytest.fixture()
def write(tmp_path):
    Image.new("RGB", (200, 100)).save(tmp_path / "a.png")

    def write(*shapes, **changes):
        data = {"imagePath": "a.png", "imageHeight": 100, "imageWidth": 200, "shapes": list(shapes), **changes}
        (tmp_path / "a.json").write_text(json.dumps(data))
        return read_labelme(tmp_path, {"annotations": "."}, ["cat", "dog"])

    return write


def shape(kind, points, label="cat"):
    return {"label": label, "shape_type": kind, "points": points}


def test_every_shape_becomes_its_box(write):
    shapes = [shape("rectangle", [[30, 60], [10, 20]], "dog"), shape("polygon", [[1, 2], [9, 5], [4, 8]]), shape("circle", [[50, 50], [53, 54]])]
    (record,) = write(*shapes).records
    assert (record["height"], record["width"], record["image_id"]) == (100, 200, "a")
    assert [(a["category_id"], a["bbox"]) for a in record["annotations"]] == [(1, [10, 20, 30, 60]), (0, [1, 2, 9, 8]), (0, [45, 45, 55, 55])]


def test_a_path_of_another_machine_is_looked_for_beside_the_file(write):
    assert len(write(imagePath="..\\elsewhere\\a.png").records) == 1


@pytest.mark.parametrize(
    "wrong, said",
    [
        (shape("rectangle", [[1, 1], [5, 5]], "bird"), "class 'bird'"),
        (shape("point", [[1, 1]]), "a point has no box"),
        (shape("rectangle", [[1, 1], [1, 5]]), "zero size"),
        (shape("rectangle", [["x", 1], [1, 5]]), "points must be pairs of numbers"),
        ({"label": "cat"}, "points must be pairs of numbers, got None"),
    ],
)
def test_a_wrong_shape_is_named(write, wrong, said):
    (problem,) = write(shape("rectangle", [[1, 1], [5, 5]]), wrong).problems
    assert said in str(problem) and "a.json" in str(problem) and "annotation 2" in str(problem)


def test_files_that_cannot_be_used(write, tmp_path):
    assert "says 50x100, but" in str(write(imageWidth=50).problems[0])
    assert "cannot be read" in str(write(imagePath="none.png").problems[0])
    (tmp_path / "a.json").write_text("{}")
    assert "is no labelme file" in str(read_labelme(tmp_path, {"annotations": "."}, ["cat"]).problems[0])
