"""Pascal VOC XML, sound and broken."""

import pytest
from conftest import SHARED_DATA, read_source
from format_card import read_found
from PIL import Image

SPLIT = {"images": "JPEGImages", "annotations": "Annotations", "image_set": "train.txt"}


def xml(objects, size="<size><width>100</width><height>50</height></size>", filename="a.jpg"):
    boxes = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{b[0]}</xmin><ymin>{b[1]}</ymin>"
        f"<xmax>{b[2]}</xmax><ymax>{b[3]}</ymax></bndbox></object>"
        for name, b, difficult in objects
    )
    return f"<annotation><filename>{filename}</filename>{size}{boxes}</annotation>"


@pytest.fixture()
def write(tmp_path):
    for folder in ("JPEGImages", "Annotations"):
        (tmp_path / folder).mkdir()
    (tmp_path / "JPEGImages/a.jpg").touch()

    def write(text, names="a\n", **changes):
        (tmp_path / "Annotations/a.xml").write_text(text)
        (tmp_path / "train.txt").write_text(names)
        return read_source("voc", tmp_path, {**SPLIT, **changes}, ["cat", "dog"])

    return write


@pytest.mark.parametrize("origin, want", [(0, [1, 1, 100, 50]), (1, [0, 0, 100, 50])])
def test_boxes_by_their_origin(write, origin, want):
    result = write(xml([("dog", (1, 1, 100, 50), 0)]), box_origin=origin)
    (record,) = result.records
    assert result.problems == [] and (record["image_id"], record["width"], record["height"]) == ("a", 100, 50)
    assert [(a["bbox"], a["category_id"], a["iscrowd"]) for a in record["annotations"]] == [(want, 1, 0)]


def test_difficult_objects_are_no_targets(write):
    assert write(xml([("cat", (1, 1, 9, 9), 1)])).records[0]["annotations"][0]["iscrowd"] == 1


@pytest.mark.parametrize(
    "text, said",
    [
        (xml([("bird", (1, 1, 9, 9), 0)]), "class 'bird' is not one of the card's: cat, dog"),
        (xml([("cat", (5, 5, 5, 5), 0)]), "annotation 1: box [5.0, 5.0, 5.0, 5.0] has zero size"),
        (xml([("cat", (9, 1, 5, 5), 0)]), "corners swapped"),
        (xml([("cat", ("x", 1, 5, 5), 0)]), "bndbox must have four numbers"),
        (xml([], size=""), "cannot be read"),
        (xml([], size="<size><width>0</width><height>5</height></size>"), "cannot be read"),
        ("<annotation>", "no element found"),
        ("", "no element found"),
    ],
)
def test_whatever_is_broken_is_named_with_its_file(write, text, said):
    result = write(text)
    assert (
        len(result.problems) == 1
        and said in str(result.problems[0])
        and ("a.xml" in str(result.problems[0]) or "a.jpg" in str(result.problems[0]))
    )
    assert not any(record["annotations"] for record in result.records)


def test_missing_files_and_double_names(write):
    result = write(xml([]), names="a\ngone\na\n")
    said = "\n".join(map(str, result.problems))
    assert "gone.xml" in said and "does not exist" in said and "is listed twice" in said and len(result.records) == 1


def test_a_missing_image_is_named(write, tmp_path):
    (tmp_path / "JPEGImages/a.jpg").unlink()
    assert "a.jpg does not exist" in str(write(xml([])).problems[0])


def test_an_image_with_another_ending_than_the_xml_says_is_found(write, tmp_path):
    (tmp_path / "JPEGImages/a.jpg").rename(tmp_path / "JPEGImages/a.png")
    assert write(xml([])).records[0]["file_name"].endswith("a.png")


@pytest.mark.skipif(not (SHARED_DATA / "bccd").is_dir(), reason="the real blood cells are not beside the project")
@pytest.mark.parametrize(
    "split, broken", [("train", ["BloodImage_00343"]), ("val", ["BloodImage_00338"]), ("test", [])]
)
def test_the_real_blood_cells_are_the_same_from_xml_and_from_json(split, broken):
    classes, root = ["RBC", "WBC", "Platelets"], SHARED_DATA / "bccd"
    voc = read_source(
        "voc",
        root,
        {
            "images": "images",
            "annotations": "original/Annotations",
            "image_set": f"original/ImageSets/Main/{split}.txt",
        },
        classes,
    )
    coco = read_source("coco", root, {"images": "images", "annotations": f"instances_{split}.json"}, classes)

    def content(result):
        return {
            r["file_name"]: sorted((a["category_id"], *a["bbox"]) for a in r["annotations"]) for r in result.records
        }

    assert content(voc) == content(coco)
    assert [problem.image for problem in voc.problems] == broken and all("zero size" in p.what for p in voc.problems)
    assert coco.problems == []


def test_without_a_file_name_two_images_of_one_stem_are_refused_by_name(tmp_path):
    for name in ("a.jpg", "a.png", "b.png"):
        Image.new("RGB", (64, 48)).save(tmp_path / name)
    for stem in "ab":
        (tmp_path / f"{stem}.xml").write_text(
            "<annotation><object><name>cat</name><bndbox><xmin>4</xmin><ymin>4</ymin><xmax>24</xmax><ymax>24</ymax></bndbox></object></annotation>"
        )
    boxes, (problem,) = read_found(tmp_path, "voc")
    assert list(boxes["all"]) == ["b"] and "a.jpg or" in problem.what and "a.png" in problem.what and problem.boxes == 1
