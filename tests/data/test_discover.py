"""Folders in the layouts that people use, and the cards that are made for them."""

import json

import pytest
import yaml
from PIL import Image
from support import ROOT, SAMPLE

from retina_plugin.data.card import DatasetCard
from retina_plugin.data.discover import discover, find_card, write_card


def images(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (64, 48)).save(folder / name)


def coco(file, names, categories=("cat", "dog")):
    file.parent.mkdir(parents=True, exist_ok=True)
    data = {
        "images": [{"id": i, "file_name": name, "width": 64, "height": 48} for i, name in enumerate(names)],
        "annotations": [{"id": i, "image_id": i, "category_id": 1, "bbox": [1, 1, 9, 9]} for i in range(len(names))],
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(categories)],
    }
    file.write_text(json.dumps(data))


def voc(folder, *names, label="cat"):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
        size = "<size><width>64</width><height>48</height></size>"
        obj = f"<object><name>{label}</name>{box}</object>"
        text = f"<annotation><filename>{name}.png</filename>{size}{obj}</annotation>"
        (folder / f"{name}.xml").write_text(text)


def labels(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}.txt").write_text("0 0.5 0.5 0.2 0.2\n")


TEN = [f"{i}.png" for i in range(10)]


def coco_by_files(root):
    images(root / "images", *TEN)
    coco(root / "annotations/instances_train2017.json", TEN[:7])
    coco(root / "annotations/instances_val2017.json", TEN[7:])


def roboflow_coco(root):
    for part, names in (("train", TEN[:6]), ("valid", TEN[6:8]), ("test", TEN[8:])):
        images(root / part, *names)
        coco(root / part / "_annotations.coco.json", names)


def one_coco(root):
    images(root, *TEN)
    coco(root / "labels.json", TEN)


def voc_with_lists(root):
    images(root / "JPEGImages", *TEN)
    voc(root / "Annotations", *(name[0] for name in TEN))
    (root / "ImageSets/Main").mkdir(parents=True)
    (root / "ImageSets/Main/train.txt").write_text("\n".join(name[0] for name in TEN[:7]))
    (root / "ImageSets/Main/val.txt").write_text("\n".join(name[0] for name in TEN[7:]))


def voc_side_by_side(root):
    images(root, *TEN)
    voc(root, *(name[0] for name in TEN))


def yolo_with_yaml(root):
    for part, names in (("train", TEN[:7]), ("val", TEN[7:])):
        images(root / "images" / part, *names)
        labels(root / "labels" / part, *(name[0] for name in names))
    (root / "data.yaml").write_text(
        "path: /somewhere/else/pets\ntrain: images/train\nval: images/val\nnames: [cat, dog]\n"
    )


def roboflow_yolo(root):
    for part, names in (("train", TEN[:7]), ("valid", TEN[7:])):
        images(root / part / "images", *names)
        labels(root / part / "labels", *(name[0] for name in names))
    (root / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnc: 2\nnames: {0: cat, 1: dog}\n")


def yolo_without_yaml(root):
    images(root / "images", *TEN)
    labels(root / "labels", *(name[0] for name in TEN))
    (root / "classes.txt").write_text("cat\ndog\n")


def csv_with_header(root):
    images(root / "pictures", *TEN)
    (root / "boxes.csv").write_text(
        "filename,cell_type,xmin,xmax,ymin,ymax\n" + "".join(f"{name},cat,1,9,1,9\n" for name in TEN)
    )


def keras_csv(root):
    images(root, *TEN)
    (root / "train.csv").write_text("".join(f"{name},1,1,9,9,cat\n" for name in TEN[:7]))
    (root / "val.csv").write_text("".join(f"{name},1,1,9,9,cat\n" for name in TEN[7:]))
    (root / "classes.csv").write_text("cat,0\n")


def labelme(root):
    images(root, *TEN)
    for name in TEN:
        shapes = [{"label": "cat", "shape_type": "rectangle", "points": [[1, 1], [9, 9]]}]
        (root / name.replace("png", "json")).write_text(json.dumps({"imagePath": name, "shapes": shapes}))


@pytest.mark.parametrize(
    "make, kind, sizes",
    [
        (coco_by_files, "coco", {"train": 7, "val": 3}),
        (roboflow_coco, "coco", {"train": 6, "val": 2, "test": 2}),
        (one_coco, "coco", {"train": 8, "val": 2}),
        (voc_with_lists, "voc", {"train": 7, "val": 3}),
        (voc_side_by_side, "voc", {"train": 8, "val": 2}),
        (yolo_with_yaml, "yolo", {"train": 7, "val": 3}),
        (roboflow_yolo, "yolo", {"train": 7, "val": 3}),
        (yolo_without_yaml, "yolo", {"train": 8, "val": 2}),
        (csv_with_header, "csv", {"train": 8, "val": 2}),
        (keras_csv, "csv", {"train": 7, "val": 3}),
        (labelme, "labelme", {"train": 8, "val": 2}),
    ],
)
def test_a_folder_becomes_a_card_that_reads_every_box(make, kind, sizes, tmp_path):
    root = tmp_path / "My pets"
    make(root)
    found = discover(root)
    assert found.format == kind and found.classes[0] == "cat" and found.name == "my_pets"
    card = DatasetCard.from_file(write_card(found, tmp_path / "datasets")[0])
    records = {split: card.load(split) for split in card.splits}
    assert {split: len(r) for split, r in records.items()} == sizes
    assert all(len(record["annotations"]) == 1 for r in records.values() for record in r)
    files = [record["file_name"] for r in records.values() for record in r]
    assert len(set(files)) == 10, "no image is in two splits"
    again = {split: [record["file_name"] for record in discover(root).load(split)] for split in card.splits}
    assert again == {split: [record["file_name"] for record in r] for split, r in records.items()}


def test_a_different_seed_chooses_different_images_for_validation(tmp_path):
    one_coco(tmp_path)
    chosen = {seed: [r["image_id"] for r in discover(tmp_path, seed=seed).load("val")] for seed in range(4)}
    assert len({tuple(ids) for ids in chosen.values()}) > 1


def test_a_card_is_updated_and_that_of_different_data_is_kept(tmp_path):
    for folder in ("a", "b"):
        one_coco(tmp_path / folder)
    first, _ = write_card(discover(tmp_path / "a", name="pets"), tmp_path / "datasets")
    first.write_text(first.read_text().replace("not known", "CC0"))
    assert write_card(discover(tmp_path / "a", name="pets"), tmp_path / "datasets") == (first, [])
    assert "CC0" in first.read_text()
    coco(tmp_path / "a/more.json", TEN)
    _, (change,) = write_card(discover(tmp_path / "a", name="pets"), tmp_path / "datasets")
    assert change.startswith("splits changed from")
    second, _ = write_card(discover(tmp_path / "b", name="pets"), tmp_path / "datasets")
    assert second.name == "pets_2.yaml" and yaml.safe_load(second.read_text())["name"] == "pets_2"


def test_the_error_for_an_unknown_layout_lists_what_the_folder_contains(tmp_path):
    images(tmp_path / "only", *TEN)
    with pytest.raises(ValueError, match="it contains 10 .png"):
        discover(tmp_path / "only")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        discover(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="format is 'tfrecord'; known: coco, voc"):
        discover(tmp_path, format="tfrecord")
    one_coco(tmp_path / "only")
    with pytest.raises(ValueError, match="annotations in the format voc"):
        discover(tmp_path / "only", format="voc")


def test_a_real_sample_is_found_in_four_formats(caplog):
    def boxes(card):
        """Number of boxes by split."""
        return {split: sum(len(r["annotations"]) for r in card.load(split)) for split in card.splits}

    assert discover(SAMPLE).format == "coco" and "COCO JSON is used" in caplog.text
    assert boxes(discover(SAMPLE, format="coco")) == {"train": 8, "val": 2}
    for kind, where in (("voc", ""), ("yolo", ""), ("csv", "original/boxes.csv")):
        assert boxes(discover(SAMPLE / where, format=kind)) == {"train": 7, "val": 2}, kind


def test_a_truncated_training_file_is_an_error(tmp_path):
    coco_by_files(tmp_path)
    file = tmp_path / "annotations/instances_train2017.json"
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(ValueError, match="instances_train2017.json.*cut off"):
        discover(tmp_path)


def test_files_without_a_split_are_merged_or_left_out_if_others_name_one(tmp_path, caplog):
    images(tmp_path, *TEN)
    coco(tmp_path / "batch1.json", TEN[:4])
    coco(tmp_path / "batch2.json", TEN[4:], categories=("cat", "cow"))
    card = discover(tmp_path)
    assert card.classes == ["cat", "dog", "cow"] and sum(len(card.load(split)) for split in card.splits) == 10
    coco(tmp_path / "train.json", TEN[:7])
    coco(tmp_path / "val.json", TEN[7:])
    card = discover(tmp_path)
    assert set(card.left_out) == {"batch1.json", "batch2.json"} and "batch1.json is not used" in caplog.text


def test_a_lone_validation_file_is_trained_on_only_if_given_itself(tmp_path):
    images(tmp_path, *TEN)
    coco(tmp_path / "val.json", TEN)
    with pytest.raises(ValueError, match="annotations for val only"):
        discover(tmp_path)
    card = discover(tmp_path / "val.json")
    assert {split: len(card.load(split)) for split in card.splits} == {"train": 8, "val": 2}


@pytest.mark.parametrize(
    "place, fine",
    [
        ("C:\\\\data\\\\pets\\\\images\\\\{}", True),
        ("/home/me/pets/images/{}/", True),
        ("../images/{}", True),
        ("elsewhere/{}/pictures", False),
    ],
)
def test_paths_in_data_yaml_match_by_their_ends_or_are_refused(tmp_path, place, fine):
    yolo_with_yaml(tmp_path)
    (tmp_path / "data.yaml").write_text(
        f"train: {place.format('train')}\nval: {place.format('val')}\nnames: [cat, dog]\n"
    )
    if not fine:
        with pytest.raises(ValueError, match="data.yaml: names .* for train, which does not exist"):
            discover(tmp_path)
        return
    card = discover(tmp_path)
    assert {split: len(card.load(split)) for split in card.splits} == {"train": 7, "val": 3}


def test_a_card_is_found_by_name_by_path_and_by_folder(digits_root, tmp_path, monkeypatch):
    assert find_card("digits").file == ROOT / "datasets/digits.yaml"
    assert find_card(ROOT / "datasets/bccd.yaml").name == "bccd"
    assert find_card(digits_root).root == str(digits_root.resolve())
    (tmp_path / "datasets").mkdir()
    card = yaml.safe_load((ROOT / "datasets/bccd.yaml").read_text())
    (tmp_path / "datasets/mine.yaml").write_text(yaml.safe_dump({**card, "name": "mine"}))
    monkeypatch.chdir(tmp_path)
    assert find_card("mine").name == find_card(tmp_path / "datasets").name == "mine"
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        find_card("nowhere")


def test_an_invalid_yaml_file_is_an_error_of_its_own(tmp_path):
    (tmp_path / "x.yaml").write_text("name: c\nx: !!python/object/apply:os.system [echo]\n")
    with pytest.raises(ValueError, match="x.yaml, line 2: the tag"):
        find_card(tmp_path / "x.yaml")


@pytest.mark.parametrize(
    "file, said",
    [
        ("train/labelTxt/P0.txt", "DOTA"),
        ("_annotations.createml.json", "CreateML"),
        ("gtFine/train/a/0_gtFine_polygons.json", "Cityscapes"),
        ("metadata.jsonl", "Hugging Face"),
        ("wider_face_train_bbx_gt.txt", "WIDER FACE"),
        ("meta.json", "Supervisely"),
    ],
)
def test_formats_that_are_known_but_not_supported_are_named(file, said, tmp_path):
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text("[]")
    with pytest.raises(ValueError, match=f"it looks like {said}.*, which is not supported"):
        discover(tmp_path)


def test_detections_are_not_annotations(tmp_path):
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    detection = {"image_id": 0, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}
    (tmp_path / "results.json").write_text(json.dumps([detection]))
    with pytest.raises(ValueError, match="results.json holds detections"):
        discover(tmp_path)
