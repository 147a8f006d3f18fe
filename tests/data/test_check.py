"""Broken data of every kind: the check reports it, training drops or refuses it, --fix cleans a copy only."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import yaml
from pictures import tiff
from PIL import Image

from detectron2.data import DatasetCatalog

from retina_plugin.data.card import DatasetCard
from retina_plugin.data.catalog import load_datasets, register_card
from retina_plugin.data.check import CheckReport, check_card
from retina_plugin.data.export import write_dataset
from retina_plugin.data.fix import fixed
from retina_plugin.data.problems import DatasetProblems, Kind

NAMES = iter(f"broken{i}" for i in range(1000))
CLASSES = ["cat", "dog"]
TRAIN = ["a.png", "b.jpg", "c.png"]


def picture(file, seed, size=(64, 48), **options):
    noise = np.random.RandomState(seed).randint(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    Image.fromarray(noise).save(file, **options)


class Data:
    """A small valid dataset in one format, to be broken."""

    def __init__(self, root, kind):
        self.root, self.kind = root, kind
        (root / "images").mkdir(parents=True)
        for seed, name in enumerate([*TRAIN, "v.png"]):
            picture(root / "images" / name, seed)
        getattr(self, kind)()

    def coco(self):
        self.json = {}
        for split, names in (("train", TRAIN), ("val", ["v.png"])):
            images = [{"id": i, "file_name": name, "width": 64, "height": 48} for i, name in enumerate(names, start=1)]
            boxes = [
                {"id": 2 * i + k, "image_id": i, "category_id": k + 1, "bbox": [4, 4, 20 + k, 20], "iscrowd": 0}
                for i in range(1, len(names) + 1)
                for k in (0, 1)
            ]
            self.json[split] = {
                "images": images,
                "annotations": boxes,
                "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
            }
        self.splits = {split: {"images": "images", "annotations": f"{split}.json"} for split in ("train", "val")}

    def voc(self):
        (self.root / "xml").mkdir()
        box = "<bndbox><xmin>4</xmin><ymin>4</ymin><xmax>30</xmax><ymax>30</ymax></bndbox>"
        size = "<size><width>64</width><height>48</height></size>"
        boxes = "".join(f"<object><name>{name}</name>{box}</object>" for name in CLASSES)
        for name in [*TRAIN, "v.png"]:
            text = f"<annotation><filename>{name}</filename>{size}{boxes}</annotation>"
            (self.root / "xml" / f"{name[0]}.xml").write_text(text)
        (self.root / "train.txt").write_text("a\nb\nc\n")
        (self.root / "val.txt").write_text("v\n")
        self.splits = {
            split: {"images": "images", "annotations": "xml", "image_set": f"{split}.txt"} for split in ("train", "val")
        }

    def yolo(self):
        (self.root / "labels").mkdir()
        for name in [*TRAIN, "v.png"]:
            (self.root / "labels" / f"{name[0]}.txt").write_text("0 0.5 0.5 0.4 0.4\n1 0.4 0.4 0.3 0.3\n")
        (self.root / "train.txt").write_text("".join(f"images/{name}\n" for name in TRAIN))
        (self.root / "val.txt").write_text("images/v.png\n")
        self.splits = {split: {"images": f"{split}.txt", "labels": "labels"} for split in ("train", "val")}

    def csv(self):
        for split, names in (("train", TRAIN), ("val", ["v.png"])):
            rows = "".join(f"{name},{label},4,4,30,30\n" for name in names for label in CLASSES)
            (self.root / f"{split}.csv").write_text("file,class,x1,y1,x2,y2\n" + rows)
        self.splits = {split: {"images": "images", "annotations": f"{split}.csv"} for split in ("train", "val")}

    def labelme(self):
        for split, names in (("train", TRAIN), ("val", ["v.png"])):
            (self.root / split).mkdir()
            for name in names:
                shapes = [
                    {"label": label, "shape_type": "rectangle", "points": [[4, 4], [30, 30]]} for label in CLASSES
                ]
                (self.root / split / f"{name[0]}.json").write_text(
                    json.dumps({"imagePath": f"../images/{name}", "shapes": shapes})
                )
        self.splits = {split: {"annotations": split} for split in ("train", "val")}

    def card(self):
        if self.kind == "coco":
            for split, data in self.json.items():
                (self.root / f"{split}.json").write_text(data if isinstance(data, str) else json.dumps(data))
        name = next(NAMES)
        file = self.root / f"{name}.yaml"
        card = {
            "name": name,
            "format": self.kind,
            "root": str(self.root),
            "classes": CLASSES,
            "splits": self.splits,
            "licence": "CC0",
            "source": "test",
        }
        file.write_text(yaml.safe_dump(card))
        return DatasetCard.from_file(file)


def image(d, name="a.png"):
    return d.root / "images" / name


def cut(name):
    def act(d):
        data = image(d, name).read_bytes()
        image(d, name).write_bytes(data[: len(data) // 2])

    return act


def replace(file, old, new):
    def act(d):
        path = d.root / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return act


def box(values, index=0):
    def act(d):
        d.json["train"]["annotations"][index]["bbox"] = values

    return act


def entry(kind, index, **values):
    def act(d):
        d.json["train"][kind][index] |= values

    return act


def turned(d):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(image(d, "b.jpg"), 9, exif=exif)


def turned_and_stated(d):
    turned(d)
    d.json["train"]["images"][1] |= {"width": 48, "height": 64}


def without_key(d):
    del d.json["train"]["images"][0]["width"]


def other_split_table(d):
    d.json["val"]["categories"][1]["name"] = "wolf"


def no_annotations(d):
    d.json["train"]["annotations"] = [x for x in d.json["train"]["annotations"] if x["image_id"] != 1]


def only_cats(d):
    for x in d.json["train"]["annotations"]:
        x["category_id"] = 1


def extra_category(d):
    d.json["train"]["categories"].append({"id": 3, "name": "bird"})
    d.json["train"]["annotations"][0]["category_id"] = 3


def small(size):
    def act(d):
        picture(image(d), 7, size=size)
        d.json["train"]["images"][0] |= {"width": size[0], "height": size[1]}
        for x in d.json["train"]["annotations"][:2]:
            x["bbox"] = [1, 1, min(size) - 2, min(size) - 2]

    return act


def nothing_left(d):
    for x in d.json["train"]["annotations"]:
        x["bbox"] = [0, 0, 0, 0]


def crowded(d):
    first = d.json["train"]["annotations"][0]
    d.json["train"]["annotations"] += [
        {**first, "bbox": [i % 40, i // 40, 5, 5 + i / 100], "id": 100 + i} for i in range(99)
    ]


def text(data):
    def act(d):
        d.json["train"] = data

    return act


def deep(d):
    Image.fromarray(np.arange(64 * 48, dtype=np.uint16).reshape(48, 64)).save(image(d))


def not_utf8(d):
    file = d.root / "xml/a.xml"
    file.write_bytes(file.read_bytes().replace(b"<annotation>", b"<annotation><folder>K\xe4fer</folder>"))


SMALL_SIZE = '"imageHeight": 9, "imageWidth": 9, "imagePath"'
BROKEN = [
    ("coco", lambda d: image(d).unlink(), "missing", "a.png does not exist"),
    ("coco", cut("a.png"), "image", "truncated"),
    ("coco", cut("b.jpg"), "image", "the JPEG has no end"),
    ("coco", lambda d: image(d).write_bytes(b""), "image", "cannot be read"),
    ("coco", lambda d: image(d).write_text("no image"), "image", "cannot be read"),
    ("coco", entry("images", 0, width=60), "size", "is 64x48, but the annotations say 60x48"),
    ("coco", entry("images", 0, width=48, height=64), "size", "with width and height swapped, they would agree"),
    ("coco", turned, "size", "is 48x64, but the annotations say 64x48; with width"),
    ("coco", turned_and_stated, "exif", "is displayed as 48x64, rotated or mirrored"),
    ("coco", box([70, 4, 10, 10]), "annotation", "lies outside the image of 64x48"),
    ("coco", box([50, 4, 20, 10]), "clipped", "extends beyond the image of 64x48 (clipped"),
    ("coco", box([4, 4, 0, 10]), "annotation", "zero size"),
    ("coco", box([30, 30, -10, -10]), "annotation", "corners swapped"),
    ("coco", box([float("nan"), 4, 10, 10]), "annotation", "not finite"),
    ("coco", box([4, 4, 10]), "annotation", "four numbers"),
    ("coco", box(["4", "4", "10", "10"]), None, ""),  # numbers in text count as numbers
    ("coco", box(None), "annotation", "four numbers"),
    ("coco", box([0.1, 0.1, 0.5, 0.5]), "tiny", "is 0.5 x 0.5"),
    ("coco", box([4, 4, 20, 20], index=1), None, ""),  # the same box with a different class is allowed
    ("coco", entry("annotations", 1, bbox=[4, 4, 20, 20], category_id=1), "duplicate", "occurs twice"),
    ("coco", entry("annotations", 1, id=2), None, ""),  # ids of annotations are only bookkeeping
    ("coco", entry("images", 1, id=1), "annotation", "image id is used twice"),
    ("coco", entry("annotations", 0, category_id=9), "classes", "category id 9 is not in the categories"),
    ("coco", extra_category, "classes", "class 'bird' is not one of the card's classes: cat, dog (1 box left out)"),
    ("coco", other_split_table, "classes", "class 'wolf' is not one of the card's"),
    ("coco", lambda d: shutil.copy(image(d), image(d, "v.png")), "split", "has the same pixels as"),
    ("coco", lambda d: shutil.copy(image(d), image(d, "c.png")), "twice", "has the same pixels as"),
    ("coco", no_annotations, "unlabelled", "no usable box"),
    ("coco", only_cats, "unused_class", "no box has the class 'dog'"),
    ("coco", small((200, 12)), "extreme", "is 200x12"),
    ("coco", entry("annotations", 0, image_id=99), "lost", "an image that is not listed"),
    ("coco", text('{"images": ['), "file", "not valid JSON"),
    ("coco", text('{"images": []}'), "file", "is not a COCO JSON"),
    ("coco", without_key, "resized", "1 of 3 images have no usable width"),
    ("coco", entry("images", 0, width=128, height=96), "scaled", "boxes scaled"),
    ("coco", entry("images", 0, file_name="C:\\\\pets\\\\a.png"), "looked_up", "is images/a.png"),
    ("coco", lambda d: (d.root / "other.json").write_text("{}"), "unused_file", "other.json"),
    ("coco", deep, "pixels", "16 bits"),
    ("coco", crowded, "crowded", "has 101 boxes"),
    ("voc", not_utf8, "encoding", "cp1252"),
    ("coco", box([4, 4, 1, 1]), "tiny", "is 1 x 1 pixels"),
    ("coco", nothing_left, "empty", "images without a single usable box"),
    ("coco", lambda d: d.splits["train"].update(annotations="gone.json"), "file", "gone.json does not exist"),
    ("coco", lambda d: d.splits["train"].pop("annotations"), "file", "has no 'annotations'"),
    ("voc", replace("xml/a.xml", "</annotation>", ""), "file", "no element found"),
    ("voc", replace("xml/a.xml", "<name>cat", "<name>Cat"), "classes", "class 'Cat' is not one of the card's"),
    ("voc", replace("xml/a.xml", "<width>64", "<width>0"), None, ""),  # the size is read from the image
    ("voc", replace("xml/a.xml", "<xmin>4", "<xmin>four"), "annotation", "bndbox must have four numbers"),
    ("voc", replace("train.txt", "a\n", "a\na\n"), "merged", "is listed twice"),
    ("voc", replace("train.txt", "a\n", "x\n"), "missing", "x.xml, image x: does not exist"),
    ("yolo", replace("labels/a.txt", "0.5 0.5", "32 24"), "annotation", "are pixels, but fractions"),
    ("yolo", replace("labels/a.txt", "1 0.4", "7 0.4"), "annotation", "class 7 is not one of 0..1"),
    ("yolo", replace("labels/a.txt", "0 0.5", "cat 0.5"), "annotation", "line must be numbers"),
    ("yolo", replace("train.txt", "images/a.png", "images/x.png"), "missing", "x.png"),
    ("csv", replace("train.csv", "4,4,30,30", "4,,30,30"), "annotation", "numbers"),
    ("csv", replace("train.csv", "x2,", "nothing,"), "file", "columns"),
    ("csv", replace("train.csv", "a.png", "x.png"), "missing", "x.png"),
    ("labelme", replace("train/a.json", "}", ""), "file", "a.json"),
    ("labelme", replace("train/a.json", "rectangle", "point"), "annotation", "point"),
    ("labelme", replace("train/a.json", '"imagePath"', SMALL_SIZE), "size", "say 9x9"),
]  # fmt: skip


def digest(root):
    return {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("kind", ["coco", "voc", "yolo", "csv", "labelme"])
def test_valid_data_has_no_findings(kind, tmp_path):
    report = check_card(Data(tmp_path, kind).card(), progress=False)
    assert report.findings == [] and not report.failed
    assert report.account.splits == {"train": (3, 6), "val": (1, 2)}


def test_the_cases_of_broken_data_cover_every_kind():
    assert len([x for x in BROKEN if x[2]]) >= 40
    assert {Kind[x[2].upper()] for x in BROKEN if x[2]} == set(Kind) - {Kind.SPELLING}


def test_classes_with_almost_the_same_spelling_are_reported(tmp_path):
    data = Data(tmp_path, "voc")
    card = data.card()
    card = DatasetCard(**{**card.__dict__, "classes": ["cat", "dog", "Cat "]})
    report = check_card(card, progress=False)
    assert [x.problem.kind for x in report.findings if x.split == "all"] == [Kind.SPELLING]
    assert "'cat' and 'Cat ' differ only in case, spaces" in report.text()


def test_an_image_with_many_deep_bands_is_one_finding_that_names_both(tmp_path):
    data = Data(tmp_path, "coco")
    (tmp_path / "images/a.tif").write_bytes(tiff(np.zeros((48, 64, 5), np.uint16)))
    data.json["train"]["images"][0]["file_name"] = "a.tif"
    (finding,) = [x for x in check_card(data.card(), progress=False).findings if x.problem.kind is Kind.PIXELS]
    bands, bits = "has 5 bands, of which the first three are used", "has 16 bits, which are scaled to 8"
    assert finding.problem.what == f"{bands} and {bits}"


BROKEN_IDS = [f"{i} {kind} {what}" for i, (kind, _, what, _) in enumerate(BROKEN)]


class Case(NamedTuple):
    """Broken data, and what the check found in it."""

    card: DatasetCard
    root: Path
    before: dict
    report: CheckReport
    kind: Kind
    said: str

    @property
    def found(self):
        """The findings that the case is about."""
        return [x for x in self.report.findings if x.problem.kind is self.kind and self.said in str(x.problem)]


@pytest.fixture(params=[case for case in BROKEN if case[2]], ids=[x for x in BROKEN_IDS if not x.endswith("None")])
def broken(request, tmp_path):
    kind, act, what, said = request.param
    data = Data(tmp_path / "data", kind)
    act(data)
    card, before = data.card(), digest(tmp_path / "data")
    return Case(card, tmp_path, before, check_card(card, progress=False), Kind[what.upper()], said)


@pytest.fixture()
def registered(broken):
    """The name of the training split in Detectron2's catalog."""
    register_card(broken.card.file, replace=True)
    yield f"{broken.card.name}_train"
    for split in broken.card.splits:
        DatasetCatalog.pop(f"{broken.card.name}_{split}")


@pytest.mark.parametrize("kind, act", [case[:2] for case in BROKEN if case[2] is None])
def test_unusual_data_that_is_right_has_no_findings(kind, act, tmp_path):
    data = Data(tmp_path / "data", kind)
    act(data)
    report = check_card(data.card(), progress=False)
    assert report.findings == []
    assert report.account.boxes == report.account.kept + sum(report.account.left_out.values())


def test_broken_data_is_found_and_every_box_accounted_for(broken):
    account, text = broken.report.account, broken.report.text()
    assert broken.found, [(f.problem.kind, str(f.problem)) for f in broken.report.findings]
    assert broken.report.failed == broken.kind.is_error
    assert broken.said in text and broken.kind.fix in text
    assert account.boxes == account.kept + sum(account.left_out.values()), account


def test_training_leaves_broken_data_out(broken, registered):
    """As many images are trained on as the check counts as used; without a box left the error names the dataset."""
    usable, boxes = broken.report.account.splits.get("train", (0, 0))
    options = {"filter_empty": False, "on_problem": "drop", "check_images": True}
    if not boxes:
        with pytest.raises((ValueError, FileNotFoundError), match=registered):
            load_datasets([registered], **options)
        return
    records = load_datasets([registered], **options)
    assert len(records) == usable
    assert all(np.asarray(Image.open(record["file_name"])).size for record in records)


def test_training_refuses_broken_data_if_asked_to(broken, registered):
    """A warning is no reason to refuse, nor is an error in a part that training does not read."""
    options = {"filter_empty": False, "on_problem": "refuse", "check_images": True}
    if broken.kind.is_error and broken.kind not in (Kind.SPLIT, Kind.TWICE) and broken.found[0].split == "train":
        with pytest.raises((DatasetProblems, ValueError, FileNotFoundError)):
            load_datasets([registered], **options)


def test_a_clean_copy_of_broken_data_has_no_errors(broken):
    """None but those of a split that cannot be read at all; the original files are unchanged."""
    records, changes = fixed(broken.report)
    copy = write_dataset(broken.card, records, broken.root / "clean", name=next(NAMES))
    again = check_card(DatasetCard.from_file(copy), progress=False)
    errors = {finding.problem.kind for finding in again.findings if finding.problem.kind.is_error}
    assert errors <= {Kind.EMPTY, Kind.SPLIT}, again.text()
    assert changes or not broken.kind.is_error or again.failed
    assert digest(broken.root / "data") == broken.before


def test_a_missing_folder_is_an_error(tmp_path):
    data = Data(tmp_path / "data", "coco")
    card = data.card()
    shutil.move(tmp_path / "data", tmp_path / "moved")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        check_card(card, progress=False)


def test_an_image_without_pixels_at_the_network_size_is_an_error_and_left_out(tmp_path):
    for name, size in (("a.png", (64, 48)), ("b.png", (3000, 2))):
        Image.new("RGB", size, 5).save(tmp_path / name)
    images = [
        {"id": 1, "file_name": "a.png", "width": 64, "height": 48},
        {"id": 2, "file_name": "b.png", "width": 3000, "height": 2},
    ]
    boxes = [{"id": i, "image_id": i, "category_id": 1, "bbox": [0, 0, 20, 2]} for i in (1, 2)]
    (tmp_path / "train.json").write_text(
        json.dumps({"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]})
    )
    card = DatasetCard(
        "pets", "coco", ["cat"], {"train": {"images": ".", "annotations": "train.json"}}, str(tmp_path), "none", "none"
    )
    report = check_card(card, progress=False, shortest=320, longest=427)
    assert report.failed and "is 3000x2, which leaves no pixels at 320 px" in report.text()
    records, changes = fixed(report)
    assert [record["image_id"] for record in records["train"]] == [1]
    assert any("image left out" in change for change in changes)
    assert not check_card(card, progress=False).failed
