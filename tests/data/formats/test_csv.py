"""CSV with and without a header, sound and broken."""

import pytest
from conftest import SHARED_DATA
from PIL import Image

from retina_plugin.data.formats.coco import read_coco
from retina_plugin.data.formats.csv import read_csv
from retina_plugin.data.formats.voc import read_voc

HEADER = "class,xmax,filename,ymin,xmin,ymax\n"


@pytest.fixture()
def write(tmp_path):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (200, 100)).save(tmp_path / name)

    def write(text):
        (tmp_path / "boxes.csv").write_text(text)
        return read_csv(tmp_path, {"annotations": "boxes.csv", "images": "."}, ["cat", "dog"])

    return write


@pytest.mark.parametrize("text", [HEADER + "dog,30,a.png,20,10,60\n", "a.png,10,20,30,60,dog\n", "Left,Top,Right,Bottom,Label,Image\n10,20,30,60,dog,a.png\n"])
def test_columns_in_any_order_or_keras_retinanets(write, text):
    (record,) = write(text).records
    assert (record["height"], record["width"], record["image_id"]) == (100, 200, "a.png")
    assert [(a["bbox"], a["category_id"]) for a in record["annotations"]] == [([10, 20, 30, 60], 1)]


def test_a_line_with_a_name_alone_is_an_image_without_objects(write):
    assert [(r["image_id"], len(r["annotations"])) for r in write("a.png,1,2,3,4,cat\nb.png,,,,,\n").records] == [("a.png", 1), ("b.png", 0)]


@pytest.mark.parametrize(
    "line, said",
    [
        ("bird,30,a.png,20,10,60", "class 'bird' is not one of the card's: cat, dog"),
        ("dog,x,a.png,20,10,60", "box must be four numbers"),
        ("dog,10,a.png,20,10,60", "zero size"),
        ("dog,10,a.png,20,30,60", "corners swapped"),
        ("dog,0.9,a.png,0.1,0.2,0.5", "in fractions of the image, where pixels"),
        ("dog,30,none.png,20,10,60", "none.png cannot be read"),
        ("dog,30", "cannot be read"),
    ],
)
def test_a_wrong_line_is_named(write, line, said):
    (problem,) = write(HEADER + line + "\n").problems
    assert said in str(problem) and "boxes.csv" in str(problem) and "line 2" in str(problem)


def test_files_that_are_no_such_table(write):
    with pytest.raises(ValueError, match="is empty"):
        write("")
    with pytest.raises(ValueError, match="none is the class"):
        write("filename,xmin,ymin,xmax,ymax\n")
    with pytest.raises(ValueError, match="neither a header nor"):
        write("1,2,3\n")


@pytest.mark.skipif(not SHARED_DATA.exists(), reason="needs the blood cells of the shared data")
def test_the_blood_cells_are_the_same_from_xml_json_and_csv():
    root, classes = SHARED_DATA / "bccd", ["RBC", "WBC", "Platelets"]
    table = read_csv(root, {"annotations": "original/test.csv", "images": "images"}, classes)
    xml = read_voc(root, {"annotations": "original/Annotations", "images": "images"}, classes)
    coco = [read_coco(root, {"annotations": f"instances_{part}.json", "images": "images"}, classes) for part in ("train", "val", "test")]

    def boxes(*results):
        return {r["file_name"]: sorted((a["category_id"], *a["bbox"]) for a in r["annotations"]) for result in results for r in result.records}

    assert boxes(table) == boxes(xml) == boxes(*coco)
    assert sum(map(len, boxes(table).values())) == 2804 + 1137 + 945
    for result in (table, xml):
        said = sorted(str(problem) for problem in result.problems)
        assert len(said) == 2 and all("has zero size" in text for text in said)
        assert "BloodImage_00338" in said[0] and "BloodImage_00343" in said[1]
