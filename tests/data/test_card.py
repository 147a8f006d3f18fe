"""Cards: reading, registering, finding the data, and reporting what is wrong."""

import json
import logging

import pytest
import yaml
from PIL import Image

from detectron2.data import DatasetCatalog, MetadataCatalog

from retina_plugin.data.card import DatasetCard
from retina_plugin.data.catalog import load_datasets, register_card, result_of
from retina_plugin.data.problems import DatasetProblems

CARD = {
    "format": "coco", "classes": ["cat", "dog"], "root": "pets", "licence": "CC0", "source": "https://example.org/pets",
    "splits": {"train": {"images": "images", "annotations": "a.json"}},
}  # fmt: skip
NAMES = iter(f"pets{i}" for i in range(1000))


@pytest.fixture()
def make_card(tmp_path):
    """Write a card, and data of one good and one broken box unless told otherwise."""

    def make(annotations=([1, 1, 10, 10], [5, 5, 0, 3]), **changes):
        name = next(NAMES)
        (tmp_path / "pets/images").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64)).save(tmp_path / "pets/images/a.jpg")
        data = {
            "images": [{"id": 1, "file_name": "a.jpg", "width": 64, "height": 64}] if annotations is not None else [],
            "annotations": [
                {"id": i, "image_id": 1, "category_id": 1, "bbox": b} for i, b in enumerate(annotations or [])
            ],
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        }
        (tmp_path / "pets/a.json").write_text(json.dumps(data))
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump({"name": name, **CARD, **changes}))
        return name, file

    return make


def test_a_card_can_be_registered_without_its_data_and_twice(make_card, tmp_path):
    name, file = make_card()
    (tmp_path / "pets/a.json").unlink()
    register_card(file)
    register_card(file)
    assert MetadataCatalog.get(f"{name}_train").thing_classes == ["cat", "dog"]


def test_loading_drops_broken_boxes_and_logs_them(make_card, caplog):
    name, file = make_card()
    register_card(file)
    with caplog.at_level(logging.WARNING):
        (record,) = DatasetCatalog.get(f"{name}_train")
    assert [a["bbox"] for a in record["annotations"]] == [[1, 1, 11, 11]]
    assert len(result_of(f"{name}_train").problems) == 1
    assert "1 problem" in caplog.text and "zero size" in caplog.text
    assert MetadataCatalog.get(f"{name}_train").thing_dataset_id_to_contiguous_id == {1: 0, 2: 1}


def test_refuse_stops_with_the_whole_list_and_drop_continues(make_card):
    name, file = make_card([[1, 1, 9, 9], [5, 5, 0, 3], [90, 90, 5, 5]])
    register_card(file)
    assert len(load_datasets([f"{name}_train"], filter_empty=True, on_problem="drop")) == 1
    with pytest.raises(DatasetProblems) as error:
        load_datasets([f"{name}_train"], filter_empty=True, on_problem="refuse")
    assert len(error.value.problems) == 2


@pytest.mark.parametrize("annotations", [None, [], [[5, 5, 0, 3]]], ids=["no images", "no boxes", "only broken boxes"])
def test_nothing_to_train_on_is_an_error(make_card, annotations):
    name, file = make_card(annotations)
    register_card(file)
    with pytest.raises(ValueError, match=f"nothing to train on in {name}_train"):
        load_datasets([f"{name}_train"], filter_empty=True, on_problem="drop")


def test_images_without_boxes_can_be_kept(make_card, tmp_path):
    name, file = make_card([[1, 1, 9, 9]])
    Image.new("RGB", (64, 64)).save(tmp_path / "pets/images/b.jpg")
    data = json.loads((tmp_path / "pets/a.json").read_text())
    data["images"].append({"id": 2, "file_name": "b.jpg", "width": 64, "height": 64})
    (tmp_path / "pets/a.json").write_text(json.dumps(data))
    register_card(file)
    assert len(load_datasets([f"{name}_train"], filter_empty=False, on_problem="drop")) == 2
    assert len(load_datasets([f"{name}_train"], filter_empty=True, on_problem="drop")) == 1


def test_the_root_comes_from_the_card_or_the_environment(make_card, monkeypatch, tmp_path):
    name, file = make_card()
    card = DatasetCard.from_file(file)
    assert card.root_path() == tmp_path / "pets"
    monkeypatch.setenv("DETECTRON2_DATASETS", "/data")
    assert str(card.root_path()) == "/data/pets"
    monkeypatch.setenv(f"RETINA_ROOT_{name.upper()}", "/elsewhere")
    assert str(card.root_path()) == "/elsewhere"


def test_the_error_for_missing_data_tells_where_it_is_expected_and_what_to_set(make_card):
    name, file = make_card(root="nowhere")
    card = register_card(file)
    message = rf"nowhere. Get the data from https://example.org/pets.*{card.root_variable}"
    with pytest.raises(FileNotFoundError, match=message):
        DatasetCatalog.get(f"{name}_train")


def test_the_error_for_unreadable_data_names_dataset_and_card(make_card, tmp_path):
    name, file = make_card()
    (tmp_path / "pets/a.json").write_text("{")
    register_card(file)
    with pytest.raises(ValueError, match=rf"dataset {name}_train \(card .*{name}.yaml\).*not valid JSON"):
        DatasetCatalog.get(f"{name}_train")


def test_a_missing_annotation_file_is_named(make_card, tmp_path):
    name, file = make_card()
    (tmp_path / "pets/a.json").unlink()
    register_card(file)
    with pytest.raises(FileNotFoundError, match="a.json does not exist"):
        DatasetCatalog.get(f"{name}_train")


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"format": "cocoo"}, "format is 'cocoo'; known"),
        ({"classes": []}, "classes must be a list of names"),
        ({"classes": [0, 1]}, "quote numbers"),
        ({"classes": ["cat", "cat"]}, "classes must be unique, got more than once: 'cat'"),
        ({"splits": {"train": "a.json"}}, "must map keys to paths"),
        ({"generator": "magic"}, "generator is 'magic'"),
        ({"licens": "MIT"}, "unknown key 'licens'"),
        ({"name": "../../evil"}, "name may have letters"),
        ({"format": ["coco"]}, "format is"),
        ({"splits": {"train": []}}, "must map keys to paths"),
        ({"splits": {"a/b": {"images": "x"}}}, "name of a split"),
        ({"splits": {"train": {"images": "x", "part": [0.5, 0.2]}}}, "part of the split"),
        ({"value_range": [3, 1]}, "value_range must be"),
        ({"root": 5}, "root must be text"),
    ],
)
def test_a_wrong_card_is_refused_with_the_reason(make_card, changes, said):
    _, file = make_card(**changes)
    with pytest.raises(ValueError, match=said):
        register_card(file)


def test_everything_wrong_with_a_card_is_reported_at_once(tmp_path):
    (tmp_path / "c.yaml").write_text("name: x\nformat: nope\n")
    with pytest.raises(ValueError) as error:
        DatasetCard.from_file(tmp_path / "c.yaml")
    for part in ("lacks 'classes'", "lacks 'root'", "lacks 'splits'", "format is 'nope'"):
        assert part in str(error.value)


@pytest.mark.parametrize("text", ["", "- a\n", "name: [\n", "x: !!python/object/apply:os.getcwd []\n"])
def test_a_file_that_is_not_a_card_is_refused(tmp_path, text):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ValueError, match="dataset card"):
        DatasetCard.from_file(tmp_path / "c.yaml")


def test_a_name_that_is_taken_is_refused(make_card):
    _, file = make_card(splits={"train": {"images": "images", "annotations": "a.json"}})
    text = file.read_text().replace(file.stem, "digits")
    file.write_text(text)
    with pytest.raises(ValueError, match="'digits_train' is already registered"):
        register_card(file)


def test_images_without_objects_are_kept_dropped_or_sampled(tmp_path):
    from retina_plugin.data.load import part_of

    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    box = {"category_id": 0, "bbox": [0, 0, 1, 1]}
    records = [
        {"file_name": str(tmp_path / "a.png"), "image_id": i, "annotations": [box] if i % 2 else []} for i in range(100)
    ]
    name = next(NAMES)
    DatasetCatalog.register(name, lambda: [dict(record) for record in records])
    MetadataCatalog.get(name).thing_classes = ["cat"]

    def load(**options):
        return [r["image_id"] for r in load_datasets([name], on_problem="drop", **options)]

    assert len(load(filter_empty=False)) == 100 and len(load(filter_empty=True)) == 50
    some = load(filter_empty=False, empty_share=0.2, seed=3)
    assert len(some) == 60 and some == sorted(some) and some == load(filter_empty=False, empty_share=0.2, seed=3)
    assert some != load(filter_empty=False, empty_share=0.2, seed=4)
    assert len(load(filter_empty=False, empty_share=0.0)) == 50
    halves = [part_of(records, *part, seed=0) for part in ((0.0, 0.5), (0.5, 1.0))]
    assert sorted(r["image_id"] for half in halves for r in half) == list(range(100))
