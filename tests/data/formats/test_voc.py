"""Pascal VOC XML, valid and broken."""

import pytest
from format_card import read_found
from PIL import Image
from support import SAMPLE, read_source

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
        (tmp_path / "Annotations/a.xml").write_text(text, encoding="utf-8")
        (tmp_path / "train.txt").write_text(names, encoding="utf-8")
        return read_source("voc", tmp_path, {**SPLIT, **changes}, ["cat", "dog"])

    return write


@pytest.mark.parametrize(("origin", "want"), [(0, [1, 1, 100, 50]), (1, [0, 0, 100, 50])])
def test_boxes_depend_on_box_origin(write, origin, want):
    result = write(xml([("dog", (1, 1, 100, 50), 0)]), box_origin=origin)
    (record,) = result.records
    assert result.problems == [] and (record["image_id"], record["width"], record["height"]) == ("a", 100, 50)
    assert [(a["bbox"], a["category_id"], a["iscrowd"]) for a in record["annotations"]] == [(want, 1, 0)]


def test_difficult_objects_are_crowd(write):
    assert write(xml([("cat", (1, 1, 9, 9), 1)])).records[0]["annotations"][0]["iscrowd"] == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (xml([("bird", (1, 1, 9, 9), 0)]), "class 'bird' is not one of the card's classes: cat, dog"),
        (xml([("cat", (5, 5, 5, 5), 0)]), "annotation 1: box [5.0, 5.0, 5.0, 5.0] has zero size"),
        (xml([("cat", (9, 1, 5, 5), 0)]), "corners swapped"),
        (xml([("cat", ("x", 1, 5, 5), 0)]), "bndbox must have four numbers"),
        (xml([], size=""), "cannot be read"),
        (xml([], size="<size><width>0</width><height>5</height></size>"), "cannot be read"),
        ("<annotation>", "no element found"),
        ("", "no element found"),
    ],
)
def test_what_is_broken_is_reported_with_its_file(write, text, words):
    result = write(text)
    (problem,) = map(str, result.problems)
    assert words in problem and ("a.xml" in problem or "a.jpg" in problem)
    assert not any(record["annotations"] for record in result.records)


def test_missing_files_and_repeated_names_are_reported(write):
    result = write(xml([]), names="a\ngone\na\n")
    problems = "\n".join(map(str, result.problems))
    assert all(words in problems for words in ("gone.xml", "does not exist", "is listed twice"))
    assert len(result.records) == 1


def test_a_missing_image_is_reported(write, tmp_path):
    (tmp_path / "JPEGImages/a.jpg").unlink()
    assert "a.jpg does not exist" in str(write(xml([])).problems[0])


def test_an_image_with_a_different_suffix_than_the_xml_states_is_found(write, tmp_path):
    (tmp_path / "JPEGImages/a.jpg").rename(tmp_path / "JPEGImages/a.png")
    assert write(xml([])).records[0]["file_name"].endswith("a.png")


@pytest.mark.parametrize(("split", "broken"), [("train", []), ("val", ["flower"])])
def test_a_real_sample_is_the_same_from_xml_and_from_json(split, broken):
    classes = ["tower", "roof", "tree", "flower"]
    names = f"original/ImageSets/Main/{split}.txt"
    voc = read_source(
        "voc", SAMPLE, {"images": "images", "annotations": "original/Annotations", "image_set": names}, classes
    )
    coco = read_source("coco", SAMPLE, {"images": "images", "annotations": f"instances_{split}.json"}, classes)

    def content(result):
        """Boxes by file, without crowd regions, which XML does not have."""
        return {
            record["file_name"]: sorted(
                (x["category_id"], *x["bbox"]) for x in record["annotations"] if not x["iscrowd"]
            )
            for record in result.records
        }

    assert content(voc) == content(coco) and sum(map(len, content(voc).values())) == {"train": 7, "val": 2}[split]
    assert [problem.image for problem in voc.problems] == broken and all("zero size" in p.what for p in voc.problems)
    assert coco.problems == []


def test_two_images_with_the_stem_of_an_xml_without_filename_are_reported(tmp_path):
    for name in ("a.jpg", "a.png", "b.png"):
        Image.new("RGB", (64, 48)).save(tmp_path / name)
    box = "<bndbox><xmin>4</xmin><ymin>4</ymin><xmax>24</xmax><ymax>24</ymax></bndbox>"
    for stem in "ab":
        text = f"<annotation><object><name>cat</name>{box}</object></annotation>"
        (tmp_path / f"{stem}.xml").write_text(text, encoding="utf-8")
    boxes, (problem,) = read_found(tmp_path, "voc")
    assert list(boxes["all"]) == ["b"] and problem.boxes == 1
    assert "a.jpg or" in problem.what and "a.png" in problem.what


def test_a_rotated_box_is_reported_as_not_supported(write):
    rotated = "<object><name>cat</name><robndbox><cx>5</cx></robndbox></object>"
    (problem,) = write(xml([]).replace("</annotation>", f"{rotated}</annotation>")).problems
    assert problem.what == "has a rotated box (robndbox), which is not supported"
