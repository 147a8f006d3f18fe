"""YOLO's text files, sound and broken."""

import pytest
from conftest import SHARED_DATA, read_source
from PIL import Image


@pytest.fixture()
def write(tmp_path):
    for folder in ("images/train", "labels/train"):
        (tmp_path / folder).mkdir(parents=True)
    Image.new("RGB", (200, 100)).save(tmp_path / "images/train/a.png")

    def write(text, **split):
        if text is not None:
            (tmp_path / "labels/train/a.txt").write_text(text)
        return read_source("yolo", tmp_path, {"images": "images/train", **split}, ["cat", "dog"])

    return write


def test_fractions_become_pixels_and_polygons_their_box(write):
    (record,) = write("1 0.5 0.5 0.1 0.2\n\n0 0.1 0.2 0.3 0.2 0.3 0.6 0.1 0.4\n").records
    assert (record["height"], record["width"], record["image_id"]) == (100, 200, "images/train/a.png")
    (dog, cat) = record["annotations"]
    assert dog["category_id"] == 1 and dog["bbox"] == pytest.approx([90, 40, 110, 60])
    assert cat["category_id"] == 0 and cat["bbox"] == pytest.approx([20, 20, 60, 60])


def test_an_image_without_a_file_has_no_objects_or_is_anothers(write):
    assert write(None).records[0]["annotations"] == []
    assert write(None, only_labelled=True).records == []


def test_lists_of_images_and_folders_of_labels(write, tmp_path):
    (tmp_path / "train.txt").write_text("images/train/a.png\n")
    assert len(write("0 0.5 0.5 0.1 0.1", images="train.txt").records[0]["annotations"]) == 1
    assert (
        len(write("0 0.5 0.5 0.1 0.1", images=["images/train"], labels="labels/train").records[0]["annotations"]) == 1
    )


@pytest.mark.parametrize(
    "line, said",
    [
        ("cat 0.5 0.5 0.1 0.1", "line must be numbers"),
        ("2 0.5 0.5 0.1 0.1", "class 2 is not one of 0..1"),
        ("0.5 0.5 0.5 0.1 0.1", "class 0.5 is not"),
        ("0 0.5 0.5 0.1", "must have 4 numbers after the class, or a polygon's pairs, got 3"),
        ("0 50 50 10 10", "are pixels, where fractions"),
        ("0 0.5 0.5 0 0.1", "zero size"),
        ("0 0.5 0.5 nan 0.1", "not finite"),
        ("0 1.0 0.5 0.5 0.1", "reaches beyond the image of 200x100"),
    ],
)
def test_a_wrong_line_is_named(write, line, said):
    (problem,) = write(f"1 0.2 0.2 0.1 0.1\n{line}\n").problems
    assert said in str(problem) and "annotation 2" in str(problem) and "a.txt" in str(problem)


def test_a_broken_image_and_missing_folders(write, tmp_path):
    (tmp_path / "images/train/a.png").write_text("no image")
    result = write("0 0.5 0.5 0.1 0.1")
    assert result.records == [] and "cannot be read" in str(result.problems[0])
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write(None, images="nowhere")
    with pytest.raises(ValueError, match="no 'images'"):
        read_source("yolo", tmp_path, {}, ["cat"])


@pytest.mark.skipif(not SHARED_DATA.exists(), reason="needs coco_mini of the shared data")
def test_coco_mini_is_the_same_from_text_and_from_json():
    import yaml

    root = SHARED_DATA / "coco_mini"
    names = yaml.safe_load(next(root.rglob("*.yaml")).read_text())["names"]
    classes = [names[i] for i in range(80)]
    for part in ("train", "val"):
        text = read_source(
            "yolo", root, {"images": "images", "labels": f"original/labels/{part}2017", "only_labelled": True}, classes
        )
        table = read_source("coco", root, {"images": "images", "annotations": f"instances_{part}.json"}, classes)
        assert text.problems == table.problems == []
        want = {r["file_name"]: [a for a in r["annotations"] if not a["iscrowd"]] for r in table.records}
        crowds = [a for r in table.records for a in r["annotations"] if a["iscrowd"]]
        assert len(crowds) == {"train": 1, "val": 2}[part], "YOLO's files have no crowd regions"
        without = [name for name, found in want.items() if not found]
        assert {r["file_name"] for r in text.records} == set(want) - set(without)
        for record in text.records:
            key = lambda a: (a["category_id"], *(round(v) for v in a["bbox"]))  # noqa: E731
            ours, theirs = (
                sorted(x, key=lambda a: (a["category_id"], a["bbox"]))
                for x in (record["annotations"], want[record["file_name"]])
            )
            assert [a["category_id"] for a in ours] == [a["category_id"] for a in theirs]
            for a in ours:  # text has six digits of a fraction, JSON two of a pixel
                assert (
                    min(
                        max(abs(x - y) for x, y in zip(a["bbox"], b["bbox"], strict=True))
                        for b in theirs
                        if b["category_id"] == a["category_id"]
                    )
                    < 1.0
                ), key(a)
