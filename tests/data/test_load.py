"""Loading a split: several sources, shares of the images, the cache of headers."""

import dataclasses
import gc
import json

import pytest
from PIL import Image

from retina_plugin.data.card import DatasetCard
from retina_plugin.data.discover import discover
from retina_plugin.data.load import load_split, part_of
from retina_plugin.data.problems import Kind


@pytest.fixture()
def card(tmp_path):
    def make(*files, **more):
        for i in range(4):
            Image.new("RGB", (64, 48), (i, 0, 0)).save(tmp_path / f"{i}.png")
        for name, (ids, boxes) in dict(files).items():
            images = [{"id": i, "file_name": f"{image}.png", "width": 64, "height": 48} for i, image in ids]
            annotations = [{"id": 1, "image_id": i, "category_id": 1, "bbox": box} for i, box in boxes]
            (tmp_path / name).write_text(
                json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]})
            )
        sources = [{"images": ".", "annotations": name} for name, _ in files]
        return DatasetCard("pets", "coco", ["cat"], {"train": sources, **more}, str(tmp_path), "", "")

    return make


def test_sources_are_merged_with_unique_image_ids(card):
    first = ("a.json", ([(1, 0), (2, 1)], [(1, [1, 1, 9, 9])]))
    second = ("b.json", ([(1, 2)], [(1, [2, 2, 9, 9])]))
    result = load_split(card(first, second), "train")
    assert sorted(record["image_id"] for record in result.records) == ["0.png", "1.png", "2.png"]
    assert result.boxes_used == 2 == result.boxes


def test_an_image_in_two_files_gets_the_boxes_of_both_without_duplicates(card):
    first = ("a.json", ([(1, 0)], [(1, [1, 1, 9, 9])]))
    second = ("b.json", ([(5, 0)], [(5, [1, 1, 9, 9]), (5, [20, 20, 9, 9])]))
    both = load_split(card(first, second), "train")
    assert len(both.records) == 1 and both.boxes_used == 2 and both.boxes == 3
    assert [(p.kind, p.boxes, p.images) for p in both.problems] == [(Kind.MERGED, 1, 1)]


def test_shares_do_not_overlap_and_add_up(card, tmp_path):
    boxes = [(i, [1, 1, 9, 9]) for i in range(4)]
    whole = card(("a.json", ([(i, i) for i in range(4)], [*boxes, (0, [0, 0, 0, 0])])))
    source = {"images": ".", "annotations": "a.json"}
    splits = {"train": {**source, "part": [0.0, 0.5]}, "val": {**source, "part": [0.5, 1.0]}}
    parts = DatasetCard("pets", "coco", ["cat"], splits, str(tmp_path), "", "")
    results = [load_split(parts, split) for split in ("train", "val")]
    assert sum(r.boxes for r in results) == load_split(whole, "train").boxes == 5
    assert sum(len(r.records) for r in results) == 4
    assert all(r.boxes == r.boxes_used + sum(p.boxes for p in r.problems) for r in results)


def test_the_header_of_a_changed_file_is_read_again(card, tmp_path):
    pets = card(("a.json", ([(1, 0)], [(1, [1, 1, 9, 9])])))
    assert load_split(pets, "train").problems == []
    Image.new("RGB", (30, 70)).save(tmp_path / "0.png")
    assert [p.kind for p in load_split(pets, "train").problems] == [Kind.SIZE]
    assert load_split(pets, "train", look=False).problems == []


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_left_as_it_was(card, enabled, tmp_path):
    try:
        (gc.enable if enabled else gc.disable)()
        made = card(("a.json", ([(1, 0)], [(1, [1, 1, 9, 9])])))
        load_split(made, "train")
        assert gc.isenabled() == enabled
        with pytest.raises(FileNotFoundError):
            load_split(dataclasses.replace(made, root=str(tmp_path / "nowhere")), "train")
        assert gc.isenabled() == enabled
    finally:
        gc.enable()


def test_images_of_a_validation_share_are_found_in_a_folder_called_train(tmp_path):
    for i in range(10):
        (tmp_path / "train").mkdir(exist_ok=True)
        Image.new("RGB", (64, 48), (i, 0, 0)).save(tmp_path / f"train/{i}a.png")
    rows = "".join(f"{i}a,4,4,24,24,cat\n" for i in range(10))
    (tmp_path / "train.csv").write_text(f"image_id,x1,y1,x2,y2,label\n{rows}")
    found = discover(tmp_path)
    assert {split: len(load_split(found, split).records) for split in found.splits} == {"train": 8, "val": 2}


@pytest.mark.parametrize("count, train", [(1, 1), (2, 1), (3, 2), (4, 3), (5, 4), (100, 80)])
def test_no_share_is_empty_if_there_are_two_images(count, train):
    records = [{"image_id": i} for i in range(count)]
    first, second = part_of(records, 0.0, 0.8, seed=1), part_of(records, 0.8, 1.0, seed=1)
    assert len(first) == train and len(second) == count - train
    assert not {r["image_id"] for r in first} & {r["image_id"] for r in second}
