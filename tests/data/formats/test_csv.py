"""CSV with the headers of many tools and without a header, valid and broken."""

import csv
import os

import pytest
from format_card import read, read_found, recognise, said
from PIL import Image
from support import SAMPLE

from retina_plugin.data.formats.csv import CsvFormat

HEADER = "class,xmax,filename,ymin,xmin,ymax\n"


@pytest.fixture()
def folder(tmp_path):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (200, 100)).save(tmp_path / name)
    return tmp_path


@pytest.fixture()
def write(folder):
    def write(text, classes=("cat", "dog"), **source):
        (folder / "boxes.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
        return read(folder, "csv", {"annotations": "boxes.csv", **source}, classes)

    return write


TABLES = {
    "any order": HEADER + "dog,30,a.png,20,10,60\n",
    "keras-retinanet": "a.png,10,20,30,60,dog\n",
    "TensorFlow": "filename,width,height,class,xmin,ymin,xmax,ymax\na.png,200,100,dog,10,20,30,60\n",
    "DeepForest": "image_path,xmin,ymin,xmax,ymax,label\na.png,10,20,30,60,dog\n",
    "Open Images": "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsGroupOf\n"
    "a,xclick,dog,1,0.05,0.15,0.2,0.6,0,0\n",
    "x, y, width, height": "filename,x,y,width,height,label\na.png,10,20,20,40,dog\n",
    "both sizes": "image,image_width,image_height,bbox_x,bbox_y,bbox_width,bbox_height,label\n"
    "a.png,200,100,10,20,20,40,dog\n",
    "box width and width": "file_name,width,height,x,y,box_width,box_height,category\n"
    "a.png,200,100,10,20,20,40,dog\n",
    "left, top, width, height": "Label;Image;Left;Top;Width;Height\ndog;a.png;10;20;20;40\n",
    "centre": "filename,x_center,y_center,width,height,class\na.png,20,40,20,40,dog\n",
    "from 0": "image,x0,y0,x1,y1,label\na.png,10,20,30,60,dog\n",
    "traffic signs": "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\na.png;200;100;10;20;30;60;dog\n",
    "bbox": 'image_id,width,height,bbox,label\na,200,100,"[10, 20, 20.0, 40]",dog\n',
    "pandas": ",filename,xmin,ymin,xmax,ymax,class\n0,a.png,10,20,30,60,dog\n",
    "semicolons and decimal commas": "filename;xmin;ymin;xmax;ymax;class\na.png;10,0;20,0;30,0;60,0;dog\n",
    "tabs": "filename\txmin\tymin\txmax\tymax\tclass\na.png\t10\t20\t30\t60\tdog\n",
    "bars": "filename|xmin|ymin|xmax|ymax|class\na.png|10|20|30|60|dog\n",
    "Excel": "sep=;\r\nfilename;xmin;ymin;xmax;ymax;class\r\na.png;10;20;30;60;dog\r\n",
    "mark and CRLF": "\ufefffilename,xmin,ymin,xmax,ymax,class\r\na.png,10,20,30,60,dog\r\n",
    "old Mac": "filename,xmin,ymin,xmax,ymax,class\ra.png,10,20,30,60,dog\r",
    "quotes and spaces": '"filename" , "X Min", "Y-Min", "x_max", "YMax", "class"\n'
    '"a.png", "10", "20", " 30 ", 60, "dog"\n',
    "comments": "# boxes of pets\n\nfilename,xmin,ymin,xmax,ymax,class\n#b.jpg,1,2,3,4,cat\na.png,10,20,30,60,dog\n",
    "a header in a comment": "#filename,xmin,ymin,xmax,ymax,class\na.png,10,20,30,60,dog\n",
    "a line break in quotes": 'filename,xmin,ymin,xmax,ymax,class,note\na.png,10,20,30,60,dog,"two\nlines"\n',
    "VIA": 'filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\n'
    'a.png,12,"{}",1,0,"{""name"":""rect"",""x"":10,""y"":20,""width"":20,""height"":40}","{""class"":""dog""}"\n',
}  # fmt: skip


@pytest.mark.parametrize("text", TABLES.values(), ids=TABLES)
def test_the_same_box_in_the_tables_of_many_tools(folder, text):
    (folder / "boxes.csv").write_bytes(text.encode())
    boxes, problems = read_found(folder, "csv")
    assert boxes == {"all": {"a.png": [("dog", pytest.approx([10, 20, 30, 60]))]}} and said(problems) == []


def test_other_encodings(folder):
    (folder / "boxes.csv").write_bytes("filename,xmin,ymin,xmax,ymax,class\na.png,10,20,30,60,dog\n".encode("utf-16"))
    assert read_found(folder, "csv")[0] == {"all": {"a.png": [("dog", [10, 20, 30, 60])]}}
    (folder / "boxes.csv").write_bytes("a.png,10,20,30,60,Käfer\n".encode("cp1252"))
    boxes, problems = read_found(folder, "csv")
    assert boxes["all"]["a.png"][0][0] == "Käfer"
    assert said(problems)[0].startswith("ENCODING") and "cp1252" in said(problems)[0]


@pytest.mark.parametrize(
    "text",
    [
        "a.png,1,2,3,4,cat\nb.png,,,,,\n",
        "filename,xmin,ymin,xmax,ymax,class\na.png,1,2,3,4,cat\nb.png,,,,,\n",
        'image_id,bbox\na,"[1,2,2,2]"\nb,\n',
        "filename,xmin,ymin,xmax,ymax,class\na.png,1,2,3,4,cat\nb.png,NaN,NaN,NaN,NaN,No finding\n",
    ],
)
def test_a_line_without_a_box_is_an_image_without_objects(folder, text):
    (folder / "boxes.csv").write_text(text, encoding="utf-8")
    boxes, problems = read_found(folder, "csv")
    assert {image: len(found) for image, found in boxes["all"].items()} == {"a.png": 1, "b.png": 0}
    assert said(problems) == []
    assert len(recognise(folder, "csv").classes) == 1


def test_a_table_without_a_class_column_has_one_class(folder, write):
    text = 'image_id,width,height,bbox,source\na,200,100,"[10.0, 20.0, 20.0, 40.0]",usask_1\n'
    (folder / "wheat.csv").write_text(text, encoding="utf-8")
    found = recognise(folder, "csv")
    assert found.classes == ["object"] and found.splits == {"all": [{"images": ".", "annotations": "wheat.csv"}]}
    assert write("filename,xmin,ymin,xmax,ymax\na.png,1,2,3,4\n", ["wheat"]).boxes_used == 1


def test_open_images_has_fractions_names_without_suffix_and_groups_as_crowd(folder):
    (folder / "train").mkdir()
    os.rename(folder / "a.png", folder / "train/a.png")
    text = (
        "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsGroupOf\n"
        "a,x,/m/dog,1,0.1,0.2,0.5,1,1\na,x,/m/cat,1,0,1,0,1,-1\n"
    )
    (folder / "train-annotations-bbox.csv").write_text(text)
    found = recognise(folder, "csv")
    assert found.splits["train"][0]["units"] == "fractions" and found.classes == ["/m/cat", "/m/dog"]
    result = read(folder, "csv", found.splits["train"], found.classes, "train")
    dog, cat = result.records[0]["annotations"]
    assert dog["bbox"] == pytest.approx([20, 50, 40, 100]) and dog["iscrowd"] == 1
    assert cat["bbox"] == [0, 0, 200, 100] and cat["iscrowd"] == 0, "-1 means unknown"
    assert said(result.problems) == []


FOUR = "line 3: box must be four numbers (x1, y1, x2, y2), got"
SPLIT = "line 3: cannot be split into columns"


@pytest.mark.parametrize(
    ("line", "kind", "words"),
    [
        ("bird,30,a.png,20,10,60", "CLASSES", "class 'bird' is not one of the card's classes: cat, dog"),
        (",30,a.png,20,10,60", "CLASSES", "class has no name"),
        ("dog,x,a.png,20,10,60", "ANNOTATION", f"{FOUR} 10, 20, x, 60"),
        ("dog,,a.png,20,10,60", "ANNOTATION", f"{FOUR} 10, 20, (nothing), 60"),
        ("dog,,a.png,,,", "ANNOTATION", "line 3: has the class 'dog', but no box"),
        ("dog,10,a.png,20,10,60", "ANNOTATION", "line 3: box [10.0, 20.0, 10.0, 60.0] has zero size"),
        ("dog,10,a.png,20,30,60", "ANNOTATION", "corners swapped"),
        ("dog,nan,a.png,20,30,60", "ANNOTATION", "not finite"),
        ("dog,1e999,a.png,20,30,60", "ANNOTATION", "not finite"),
        ("dog,0.9,a.png,0.1,0.2,0.5", "ANNOTATION", "line 3: values 0.2, 0.1, 0.9, 0.5 are fractions, but pixels"),
        ("dog,300,a.png,20,10,60", "CLIPPED", "line 3: box"),
        ("dog,30,none.png,20,10,60", "MISSING", "none.png does not exist"),
        ("dog,30,,20,10,60", "ANNOTATION", "line 3: names no image"),
        ("dog,30", "ANNOTATION", "line 3: names no image"),
        ("dog,30,a.png,20,10,60,7", "ANNOTATION", "line 3: has 7 columns, but the header has 6"),
        ('dog,30,"a.png,20,10,60', "ANNOTATION", SPLIT),
        (f"dog,30,{'x' * 200_000},20,10,60", "MISSING", "the name of its image is not a path"),
        (f'dog,30,"{"x" * 200_000}",20,10,60', "ANNOTATION", f"{SPLIT}: field larger than field limit"),
        (HEADER.strip(), "MERGED", "line 3: repeats the header"),
    ],
)
def test_a_wrong_line_is_reported_and_the_others_are_kept(write, line, kind, words):
    result = write(HEADER + f"cat,5,a.png,1,1,9\n{line}\ncat,50,b.png,1,1,9\n")
    (problem,) = said(result.problems)
    assert problem.startswith(kind) and words in problem and "boxes.csv" in problem
    kept = 2 if kind != "CLIPPED" else 3
    assert result.boxes_used == kept and result.boxes == (2 if kind == "MERGED" else 3)


def test_the_boxes_of_a_missing_image_are_counted_once_wherever_its_lines_are(write):
    lines = ["cat,5,gone.png,1,1,9", "cat,5,a.png,1,1,9", "bird,x,gone.png,1,1,9", "cat,9,b.png,1,1,9"]
    result = write(HEADER + "\n".join([*lines, "cat,6,a.png,1,1,9", ""]))
    (problem,) = result.problems
    assert (problem.kind.name, problem.boxes, problem.images) == ("MISSING", 2, 1) and result.boxes == 5
    assert [len(record["annotations"]) for record in result.records] == [2, 1]


def test_pixels_among_fractions_are_reported_and_undeclared_fractions_are_refused(write):
    result = write("a.png,.1,.1,.5,.5,cat\na.png,4,4,20,20,cat\n", units="fractions")
    assert [x["bbox"] for x in result.records[0]["annotations"]] == [pytest.approx([20, 10, 100, 50])]
    assert "line 2: values 4, 4, 20, 20 are pixels" in said(result.problems)[0]
    with pytest.raises(ValueError, match="units: fractions"):
        write("a.png,.1,.1,.5,.5,cat\n")


def test_width_and_height_are_the_size_of_the_image_if_the_box_has_other_columns(write):
    result = write(
        "filename,width,height,class,xmin,ymin,xmax,ymax\na.png,100,50,cat,10,10,20,20\nb.png,-1,,cat,10,10,20,20\n"
    )
    (first,), (second,) = (record["annotations"] for record in result.records)
    assert (first["bbox"], second["bbox"]) == ([20, 20, 40, 40], [10, 10, 20, 20])
    assert [line.split()[0] for line in said(result.problems)] == ["SCALED", "RESIZED"]
    assert write("filename,x,y,width,height,label\na.png,1,1,9,9,cat\n").problems == []


def test_splits_by_the_names_of_files(folder):
    (folder / "train_labels.csv").write_text("a.png,1,2,3,4,cat\n", encoding="utf-8")
    (folder / "Validation.CSV").write_text("b.png,1,2,3,4,10\nb.png,1,2,3,5,9\n", encoding="utf-8")
    found = recognise(folder, "csv")
    assert set(found.splits) == {"train", "val"} and found.classes == ["9", "10", "cat"]
    assert found.used == {"train_labels.csv", "Validation.CSV"}


def test_splits_by_a_column(folder):
    def write(*lines):
        (folder / "all.csv").write_text("\n".join(["set,image,x1,y1,x2,y2,label", *lines, ""]), encoding="utf-8")

    write("TRAIN,a.png,1,2,3,4,cat", "VALIDATION,b.png,1,2,3,4,dog", "TRAIN,a.png,5,5,9,9,dog")
    boxes, problems = read_found(folder, "csv")
    assert boxes == {
        "train": {"a.png": [("cat", [1, 2, 3, 4]), ("dog", [5, 5, 9, 9])]},
        "val": {"b.png": [("dog", [1, 2, 3, 4])]},
    }
    assert problems == []
    write("TRAIN,a.png,1,2,3,4,cat", "UNASSIGNED,b.png,1,2,3,4,dog")
    (refused,) = recognise(folder, "csv").refused
    assert "has a column of splits with 'UNASSIGNED'; expected train, val and test only" in refused.reason
    write("7,a.png,1,2,3,4,cat", "8,b.png,1,2,3,4,dog")
    assert list(recognise(folder, "csv").splits) == ["all"]


def test_images_are_found_by_the_end_of_a_path_from_another_machine(folder):
    (folder / "imgs").mkdir()
    os.rename(folder / "a.png", folder / "imgs/a.png")
    for path in ("/data/imgs/a.png", "D:\\data\\imgs\\A.PNG", "imgs/a.png"):
        (folder / "boxes.csv").write_text(f"{path},10,20,30,60,dog\n", encoding="utf-8")
        assert read_found(folder, "csv")[0] == {"all": {"imgs/a.png": [("dog", [10, 20, 30, 60])]}}


def test_shapes_in_a_table_of_via(folder):
    head = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\n"
    polygon = '{"name":"polygon","all_points_x":[10,30,20],"all_points_y":[20,20,60]}'
    rows = [
        ["a.png", 1, "{}", 4, 0, polygon, '{"colour":"red","Type":"dog"}'],
        ["a.png", 1, "{}", 4, 1, '{"name":"point","cx":1,"cy":1}', '{"Type":"dog"}'],
        ["a.png", 1, "{}", 4, 2, '{"name":"rect","x":1', '{"Type":"dog"}'],
        ["a.png", 1, "{}", 4, 3, '{"name":"rect","x":1,"y":1,"width":5,"height":5}', "{}"],
        ["b.png", 1, "{}", 0, 0, "{}", "{}"],
    ]
    with open(folder / "via.csv", "w", newline="", encoding="utf-8") as stream:
        stream.write(head)
        csv.writer(stream).writerows(rows)
    found = recognise(folder, "csv")
    assert found.classes == ["dog"] and found.splits["all"][0]["class_attribute"] == "Type"
    boxes, problems = read_found(folder, "csv")
    assert boxes["all"] == {"a.png": [("dog", [10, 20, 30, 60])], "b.png": []}
    assert [line.split()[0] for line in said(problems)] == ["ANNOTATION", "ANNOTATION", "CLASSES"]
    assert "line 3: a point has no box" in said(problems)[0] and "line 4" in said(problems)[1]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("filename,label\na.png,cat\n", "names images of the folder, but has neither a header"),
        ("a.png,200,100,cat,1,2,3,4\n", "its first line is a.png, 200, 100, cat"),
        ("picture,left_side,xmin,ymin\nq.png,1,2,3\n", "columns picture, left_side, xmin, ymin; no four of them are"),
        ("filename,xmin,ymin,xmax,ymax,what\na.png,1,2,3,4,cat\n", "none is the class"),
        ("what,xmin,ymin,xmax,ymax,class\na.png,1,2,3,4,cat\n", "none is the image"),
        ("image_id,BoxesString\na,1 2 3 4;5 6 7 8\n", "image_id, BoxesString; no four"),
        ("filename;xmin;ymin;xmax\na.png;4;4;24\n", "has the columns filename, xmin, ymin, xmax;"),
        (HEADER, "has a header, but no line"),
    ],
)
def test_a_table_that_is_not_understood_is_refused_with_its_columns(folder, text, reason):
    (folder / "val.csv").write_text(text, encoding="utf-8")
    found = recognise(folder, "csv")
    (refused,) = found.refused
    assert (refused.file, refused.split, found.splits) == ("val.csv", "val", {}) and reason in refused.reason


NO_TABLES = ["", "\n\n", "# nothing\n", "\0\1\2", '"' * 999, "x" * 200_000]
OTHER_TABLES = ["loss,val/box_loss\n1,2\n", "1,2,3,4,5,6\n", "name,price,a,b,c,d\nx,1,2,3,4,e\n", "cat,0\ndog,1\n"]


@pytest.mark.parametrize("text", [*NO_TABLES, *OTHER_TABLES])
def test_a_table_without_boxes_is_ignored_in_a_folder_and_refused_in_a_card(folder, text):
    (folder / "things.csv").write_text(text, encoding="utf-8")
    found = recognise(folder, "csv")
    assert (found.splits, found.refused, found.unused) == ({}, [], {})
    with pytest.raises(ValueError, match="things.csv has neither a header"):
        read(folder, "csv", {"annotations": "things.csv"})


def test_a_pipe_and_a_split_without_a_split_column_are_refused(folder, write):
    os.mkfifo(folder / "pipe.csv")
    assert recognise(folder, "csv").splits == {}
    with pytest.raises(ValueError, match="pipe"):
        read(folder, "csv", {"annotations": "pipe.csv"})
    with pytest.raises(ValueError, match="has no column of splits"):
        write("a.png,1,2,3,4,cat\n", only="train")


def test_a_written_table_is_read_back_box_by_box(folder, write):
    (folder / "odd, name #1.png").write_bytes((folder / "a.png").read_bytes())
    lines = ['a.png,10,20,30.1234,60,"big, dog"', "a.png,1,1,5,5,cat", '"odd, name #1.png",1,2,3,4,cat', "b.png,,,,,"]
    classes = ["cat", "big, dog"]
    first = write("\n".join([*lines, ""]), classes)
    (folder / "out").mkdir()
    (source,) = CsvFormat().write({"train": first.records}, classes, folder / "out")["train"]
    again = read(folder, "csv", {**source, "images": "out", "annotations": "out/train.csv"}, classes, "train")
    expected = [(record["file_name"], record["annotations"]) for record in first.records]
    assert [(record["file_name"], record["annotations"]) for record in again.records] == expected
    assert again.problems == []


def test_a_real_sample_is_the_same_from_xml_json_and_csv():
    classes = ["tower", "roof", "tree", "flower"]
    table = read(SAMPLE, "csv", {"annotations": "original/boxes.csv", "images": "images"}, classes)
    xml = read(SAMPLE, "voc", {"annotations": "original/Annotations", "images": "images"}, classes)
    parts = [{"annotations": f"instances_{part}.json", "images": "images"} for part in ("train", "val")]
    coco = read(SAMPLE, "coco", parts, classes)

    def boxes(result):
        """Boxes by file, without crowd regions, which CSV and XML do not have."""
        return {
            record["file_name"]: sorted(
                (x["category_id"], *x["bbox"]) for x in record["annotations"] if not x["iscrowd"]
            )
            for record in result.records
        }

    assert boxes(table) == boxes(xml) == boxes(coco)
    assert table.boxes_used == 9 and coco.boxes_used == 10
    for result in (table, xml):
        (line,) = (line for line in said(result.problems) if "zero size" in line)
        assert "flower" in line


def test_keras_retinanets_second_file_defines_the_order_of_the_classes(tmp_path):
    for i in range(3):
        Image.new("RGB", (64, 48), (i, 0, 0)).save(tmp_path / f"{i}.png")
    text = "0.png,4,4,24,24,cat\n1.png,4,4,24,24,dog\n2.png,,,,,\n"
    (tmp_path / "annotations.csv").write_text(text, encoding="utf-8")
    (tmp_path / "classes.csv").write_text("dog,0\ncat,1\nbird,2\n", encoding="utf-8")
    found = recognise(tmp_path, "csv")
    assert found.classes == ["dog", "cat", "bird"]
    assert found.used == {"annotations.csv", "classes.csv"} and not found.unused
    (tmp_path / "classes.csv").write_text("dog,0\nbird,1\n", encoding="utf-8")
    found = recognise(tmp_path, "csv")
    assert found.classes == ["cat", "dog"] and found.unused == {"classes.csv": "numbers classes, but lacks cat"}
