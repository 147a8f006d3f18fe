"""CVAT for images, valid and broken."""

import math
import os

import pytest
from format_card import read, read_found, recognise, said
from PIL import Image

LABELS = (
    "<meta><task><labels><label><name>dog</name><type>any</type></label><label><name>cat</name></label>"
    "<label><name>nose</name><type>points</type></label></labels></task></meta>"
)
BOX = '<box label="cat" occluded="0" xtl="10.0" ytl="20.0" xbr="30.0" ybr="60.0" z_order="0"/>'
SOURCE = {"annotations": "annotations.xml"}


def image(objects=BOX, name="a.png", size='width="200" height="100"', more=""):
    return f'<image id="0" name="{name}" {size} {more}>{objects}</image>'


@pytest.fixture()
def write(tmp_path):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (200, 100)).save(tmp_path / name)

    def write(body, file="annotations.xml", meta=LABELS):
        (tmp_path / file).write_text(
            f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>{meta}{body}</annotations>',
            encoding="utf-8",
        )
        return tmp_path

    return write


def test_shapes_become_boxes_and_classes_are_in_the_order_of_the_file(write):
    objects = (
        BOX + '<polygon label="dog" points="1,2;9,5;4.5,8"/><ellipse label="cat" cx="50" cy="50" rx="20" ry="10"/>'
        '<ellipse label="cat" cx="50" cy="50" rx="20" ry="10" rotation="90"/>'
        '<mask label="dog" rle="3,4" left="3" top="4" width="5" height="6"/><tag label="cat"/>'
    )
    folder = write(image(objects) + image("", "b.png"))
    found = recognise(folder, "cvat")
    assert found.classes == ["dog", "cat"] and found.used == {"annotations.xml"}
    assert found.splits == {"all": [{"images": ".", "annotations": "annotations.xml"}]}
    boxes, problems = read_found(folder, "cvat")
    expected = [
        ("cat", [10, 20, 30, 60]),
        ("dog", [1, 2, 9, 8]),
        ("cat", [30, 40, 70, 60]),
        ("cat", [40, 30, 60, 70]),
        ("dog", [3, 4, 8, 10]),
    ]
    assert boxes == {"all": {"a.png": [(name, pytest.approx(box)) for name, box in expected], "b.png": []}}
    assert said(problems) == []


@pytest.mark.parametrize(
    ("angle", "half"),
    [
        (0, (20, 10)),
        (90, (10, 20)),
        (180, (20, 10)),
        (45, (15 * math.sqrt(2), 15 * math.sqrt(2))),
        (-270, (10, 20)),
        (360, (20, 10)),
    ],
)
def test_a_rotated_box_becomes_the_box_around_it(write, angle, half):
    """A box of 40x20 with centre (100, 50): rotated by 45 degrees, it extends (20 + 10) / sqrt(2) from its centre."""
    folder = write(image(f'<box label="cat" xtl="80" ytl="40" xbr="120" ybr="60" rotation="{angle}"/>'))
    ((_, box),) = read_found(folder, "cvat")[0]["all"]["a.png"]
    assert box == pytest.approx([100 - half[0], 50 - half[1], 100 + half[0], 50 + half[1]])


def test_difficult_objects_are_crowd(write):
    def with_attribute(name, value):
        return BOX.replace("/>", f'><attribute name="{name}">{value}</attribute></box>')

    attributes = [("difficult", "true"), ("difficult", "false"), ("colour", "true")]
    folder = write(image("".join(with_attribute(name, value) for name, value in attributes)))
    (record,) = read(folder, "cvat", SOURCE).records
    assert [x["iscrowd"] for x in record["annotations"]] == [1, 0, 0]


@pytest.mark.parametrize(
    ("wrong", "kind", "words"),
    [
        (BOX.replace("cat", "bird"), "CLASSES", "class 'bird'"),
        (BOX.replace('label="cat"', ""), "CLASSES", "no name"),
        (BOX.replace("30.0", "x"), "ANNOTATION", "2: box must have the numbers xtl, ytl, xbr, ybr, got 10.0, 20.0, x"),
        (BOX.replace('xbr="30.0"', ""), "ANNOTATION", "got 10.0, 20.0, None, 60.0"),
        (BOX.replace("30.0", "10.0"), "ANNOTATION", "zero size"),
        (BOX.replace("30.0", "nan"), "ANNOTATION", "not finite"),
        (BOX.replace("30.0", "5").replace("/>", ' rotation="30"/>'), "ANNOTATION", "corners swapped"),
        (BOX.replace("/>", ' rotation="x"/>'), "ANNOTATION", "rotation must be a number"),
        (BOX.replace("/>", ' rotation="inf"/>'), "ANNOTATION", "not finite"),
        ('<polygon label="cat" points="1,2;3"/>', "ANNOTATION", "polygon must have points"),
        ('<polygon label="cat"/>', "ANNOTATION", "polygon must have points"),
        ('<polygon label="cat" points="1,2;nan,3;5,6"/>', "ANNOTATION", "not finite"),
        ('<polyline label="cat" points="1,2;3,4"/>', "ANNOTATION", "polyline has no box"),
        ('<points label="cat" points="1,2"/>', "ANNOTATION", "points has no box"),
        ('<cuboid label="cat" xtl1="1"/>', "ANNOTATION", "cuboid has no box"),
        ('<skeleton label="cat"><points label="1" points="1,2"/></skeleton>', "ANNOTATION", "skeleton has no box"),
    ],
)
def test_a_wrong_shape_is_reported_and_the_others_are_kept(write, wrong, kind, words):
    result = read(write(image(BOX + wrong + BOX)), "cvat", SOURCE)
    (problem,) = said(result.problems)
    assert problem.startswith(kind) and words in problem and "annotations.xml" in problem
    assert (result.boxes, result.boxes_used) == (3, 2)


def test_missing_and_repeated_images_and_sizes(write):
    images = [
        image(BOX + BOX, "none.png"),
        image(),
        image(BOX.replace("10.0", "11.0")),
        image("", "b.png", 'width="0" height="x"'),
        image(BOX, "").replace('name=""', ""),
    ]
    result = read(write("".join(images)), "cvat", SOURCE)
    assert [(p.kind.name, p.boxes, p.images) for p in result.problems] == [
        ("MISSING", 2, 1),
        ("MERGED", 0, 1),
        ("MISSING", 1, 1),
        ("RESIZED", 0, 0),
    ]
    assert {r["image_id"]: len(r["annotations"]) for r in result.records} == {"a.png": 2, "b.png": 0}


def test_boxes_are_scaled_to_the_size_of_the_image_and_clipped(write):
    """Twice as large: (10, 20, 30, 60) becomes (20, 40, 60, 120), of which the image has 100 rows."""
    result = read(write(image(size='width="100" height="50"')), "cvat", SOURCE)
    assert result.records[0]["annotations"][0]["bbox"] == [20, 40, 60, 100]
    assert "SCALED" in said(result.problems)[0]


def test_names_with_folders_and_from_another_system(write, tmp_path):
    (tmp_path / "images").mkdir()
    os.rename(tmp_path / "a.png", tmp_path / "images/a.png")
    for name in ("images/a.png", "a.png", "share\\images\\a.png"):
        assert list(read_found(write(image(name=name)), "cvat")[0]["all"]) == ["images/a.png"]


def test_subsets_named_like_splits_are_splits(write):
    folder = write(image(more='subset="Train"') + image(BOX.replace("cat", "dog"), "b.png", more='subset="Validation"'))
    found = recognise(folder, "cvat")
    only = {split: [source["only"] for source in sources] for split, sources in found.splits.items()}
    assert only == {"train": ["train"], "val": ["val"]}
    boxes, problems = read_found(folder, "cvat")
    box = [10, 20, 30, 60]
    assert boxes == {"train": {"a.png": [("cat", box)]}, "val": {"b.png": [("dog", box)]}} and problems == []


def test_other_subsets_are_one_split_and_a_mixture_is_refused(write):
    folder = write(image(more='subset="default"') + image(name="b.png", more='subset="batch"'))
    assert list(recognise(folder, "cvat").splits) == ["all"]
    write(image(more='subset="Train"') + image(name="b.png", more='subset="default"'))
    (refused,) = recognise(folder, "cvat").refused
    assert "the subsets Train, default; expected train, val and test only, not 'default'" in refused.reason
    assert read(folder, "cvat", {**SOURCE, "only": "default"}).images == 1


def test_a_file_is_the_split_of_its_name(write):
    folder = write(image(), "valid.xml")
    assert list(recognise(folder, "cvat").splits) == ["val"]


def test_tracks_and_unreadable_files_are_refused(write, tmp_path):
    write('<track id="0" label="cat"><box frame="0" outside="0" xtl="1" ytl="1" xbr="9" ybr="9"/></track>')
    write("", "none.xml")
    (tmp_path / "cut.xml").write_text("<annotations><image id='0' name='a.png'>", encoding="utf-8")
    bomb = '<!DOCTYPE x [<!ENTITY a "b">]><annotations><image name="&a;"/></annotations>'
    (tmp_path / "bomb.xml").write_text(bomb, encoding="utf-8")
    found = recognise(tmp_path, "cvat")
    reasons = {refused.file: refused.reason for refused in found.refused}
    assert found.splits == {} and sorted(reasons) == ["annotations.xml", "bomb.xml", "cut.xml", "none.xml"]
    assert "for video (tracks), which is not supported" in reasons["annotations.xml"]
    assert "entities" in reasons["bomb.xml"] and "without images" in reasons["none.xml"]
    with pytest.raises(ValueError, match="annotations.xml is not a CVAT for images file: it has tracks"):
        read(tmp_path, "cvat", SOURCE)
    with pytest.raises(ValueError, match="cut.xml"):
        read(tmp_path, "cvat", {"annotations": "cut.xml"})


NO_XML = ["", "\0", "<annotations>" * 200_000, "<a"]
OTHER_XML = ["<annotation><object/></annotation>", "<annotations/>", "<svg><image/></svg>"]


@pytest.mark.parametrize("text", [*NO_XML, *OTHER_XML])
def test_other_files_are_ignored(tmp_path, text):
    (tmp_path / "x.xml").write_text(text, encoding="utf-8")
    os.mkfifo(tmp_path / "pipe.xml")
    found = recognise(tmp_path, "cvat")
    assert (found.splits, found.refused, found.unused) == ({}, [], {})


def test_a_file_that_is_not_utf_8_is_read_as_a_western_code_page(tmp_path):
    text = f'<?xml version="1.0" encoding="utf-8"?><annotations>{image(BOX.replace("cat", "Käfer"))}</annotations>'
    Image.new("RGB", (200, 100)).save(tmp_path / "a.png")
    (tmp_path / "x.xml").write_bytes(text.encode("cp1252"))
    boxes, problems = read_found(tmp_path, "cvat")
    assert boxes["all"]["a.png"][0][0] == "Käfer" and said(problems)[0].startswith("ENCODING")
