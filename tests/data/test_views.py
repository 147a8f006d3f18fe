"""Views: subsets and mixtures of datasets by name."""

from collections import Counter

import pytest
import torch
from support import ROOT, SMALL

from detectron2.data import DatasetCatalog, MetadataCatalog

from retina_plugin import RetinaTrainer, load_config
from retina_plugin.data.loader import repeating_sampler
from retina_plugin.data.views import View, register_view, view_of
from retina_plugin.evaluation.ground_truth import GroundTruth

DIGITS = ROOT / "configs/digits/quickstart.yaml"


@pytest.fixture()
def views(small_digits):
    """Unregister after a test the datasets that it registered."""
    before = set(DatasetCatalog.list())
    yield
    for name in set(DatasetCatalog.list()) - before:
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name)


@pytest.mark.parametrize("name, want", [
    ("digits_train[3]", View("digits_train", (("3", "3"),), 1.0)),
    ("digits_train[ 3 , odd = 7, odd=9 ]*2.5", View("digits_train", (("3", "3"), ("odd", "7"), ("odd", "9")), 2.5)),
    ("digits_train*3", View("digits_train", (), 3.0)),
    ("a b[teddy bear]", View("a b", (("teddy bear", "teddy bear"),), 1.0)),
    ("digits_train", None), ("x[", None), ("x]y", None), ("*3", None), ("", None),
])  # fmt: skip
def test_names_are_parsed(name, want):
    assert view_of(name) == want


BY_DATA = [*SMALL[:-8], "MODEL.RETINANET.NUM_CLASSES", 0]
"""Options for a small model whose classes are those of the data."""


@pytest.mark.parametrize(
    "name, said",
    [
        ("digits_train[]", "name the classes between the brackets"),
        ("digits_train[3,]", "name the classes"),
        ("digits_train[=3]", "name the classes"),
        ("digits_train[a=]", "name the classes"),
        ("digits_train[3, three=3]", "the class '3' is named twice"),
        ("digits_train*0", "repeated 0 times"),
        ("digits_train[eleven]", "has no class 'eleven'. Its classes are 0, 1, 2"),
        ("digits_train[3, 33]", "did you mean '3'?"),
    ],
)
def test_wrong_names_are_reported(views, name, said):
    with pytest.raises(ValueError) as error:
        load_config(DIGITS, [*BY_DATA, "DATASETS.TRAIN", (name,), "DATASETS.TEST", (), "TEST.EARLY_STOP_PATIENCE", 0])
    assert said in str(error.value)


def test_labels_follow_the_names_and_every_image_is_kept(views):
    register_view("digits_train[7, odd=3, odd=9]")
    base, found = DatasetCatalog.get("digits_train"), DatasetCatalog.get("digits_train[7, odd=3, odd=9]")
    assert MetadataCatalog.get("digits_train[7, odd=3, odd=9]").thing_classes == ["7", "odd"]
    assert [record["file_name"] for record in found] == [record["file_name"] for record in base]
    want = Counter({7: 0, 3: 1, 9: 1}.get(x["category_id"]) for record in base for x in record["annotations"])
    del want[None]
    assert Counter(x["category_id"] for record in found for x in record["annotations"]) == want
    labels = {x["category_id"] for record in base for x in record["annotations"]}
    assert 3 in labels, "the records of the base are unchanged"


def test_a_view_is_evaluated_on_its_own_classes(views):
    register_view("digits_val[1, 2]")
    truth = GroundTruth.of("digits_val[1, 2]")
    assert truth.class_names == ["1", "2"] and {x["category_id"] for x in truth.coco["annotations"]} <= {1, 2}
    assert len(truth.coco["images"]) == 4


def test_two_datasets_are_mixed_in_a_ratio(views):
    """Over many epochs, an image of the first is drawn 2.5 times as often as one of the second."""
    datasets = ["DATASETS.TRAIN", ("digits_train*2.5", "digits_val"), "DATASETS.TEST", ()]
    cfg = load_config(DIGITS, [*BY_DATA, *datasets, "SOLVER.IMS_PER_BATCH", 2, "SOLVER.REFERENCE_BATCH_SIZE", 0])
    records = [{**record, "set": name} for name in cfg.DATASETS.TRAIN for record in DatasetCatalog.get(name)]
    sampler = iter(repeating_sampler(cfg, records, seed=1))
    counts = Counter(records[next(sampler)]["set"] for _ in range(24 * 200))
    assert counts["digits_train*2.5"] / counts["digits_val"] == pytest.approx(2.5 * 8 / 4, rel=0.03)
    assert repeating_sampler(cfg, DatasetCatalog.get("digits_val"), seed=1) is None


def test_rare_classes_are_repeated_in_addition(views):
    datasets = ["DATASETS.TRAIN", ("digits_train*2",), "DATASETS.TEST", ()]
    rare = ["DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler", "DATALOADER.REPEAT_THRESHOLD", 0.9]
    cfg = load_config(DIGITS, [*SMALL, *datasets, *rare])
    records = DatasetCatalog.get("digits_train*2")
    alone = repeating_sampler(load_config(DIGITS, [*SMALL, *datasets]), records, seed=1)
    assert (repeating_sampler(cfg, records, seed=1)._int_part.sum() + 0.0) >= alone._int_part.sum()
    assert torch.equal(alone._int_part, torch.full((8,), 2.0))


def test_epochs_count_repeated_images(views):
    opts = [*SMALL, "DATASETS.TEST", (), "SOLVER.EPOCHS", 4, "TEST.EARLY_STOP_PATIENCE", 0]
    once, twice = (
        load_config(DIGITS, [*opts, "DATASETS.TRAIN", (name,)]).SOLVER.MAX_ITER
        for name in ("digits_train", "digits_train*2")
    )
    assert (once, twice) == (16, 32)


@pytest.mark.slow
def test_views_are_trained_and_evaluated_on(views, tmp_path):
    values = {
        "SOLVER.IMS_PER_BATCH": 2,
        "SOLVER.REFERENCE_BATCH_SIZE": 0,
        "DATALOADER.NUM_WORKERS": 0,
        "SOLVER.MAX_ITER": 2,
        "SOLVER.WARMUP_ITERS": 1,
        "INPUT.MIN_SIZE_TRAIN": (64,),
        "INPUT.MIN_SIZE_TEST": 64,
        "TEST.REPORT": False,
        "MODEL.BOTTOM_UP.NAME": "build_retina_resnet",
        "MODEL.WEIGHTS": "",
        "OUTPUT_DIR": str(tmp_path),
        "DATASETS.TRAIN": ("digits_train[0, 1, many=8]", "digits_val[0, 1, many=9]*0.5"),
        "DATASETS.TEST": ("digits_val[0, 1, many=8]", "digits_val[0,1,many=7]"),
    }
    cfg = load_config(DIGITS, [*BY_DATA, *(part for pair in values.items() for part in pair)])
    assert cfg.MODEL.RETINANET.NUM_CLASSES == 3
    trainer = RetinaTrainer(cfg)
    trainer.train()
    assert set(trainer.results) == {"digits_val[0, 1, many=8]", "digits_val[0,1,many=7]"}
    assert (tmp_path / "digits_val_0_1_many_7_/coco_instances_results.json").exists()
