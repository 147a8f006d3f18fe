"""Values that are derived from a config."""

import json
import logging

import pytest
import torch
from support import BASE, ROOT, TINY

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from retina_plugin import load_config
from retina_plugin.config.resolve import class_names, unresolved

DIGITS = ROOT / "configs/digits/quickstart.yaml"
CPU = ["MODEL.DEVICE", "cpu"]


def test_the_class_count_comes_from_the_dataset():
    assert load_config(DIGITS, CPU).MODEL.RETINANET.NUM_CLASSES == 10


def test_the_schedule_scales_with_the_batch_size_and_the_change_is_logged(caplog):
    with caplog.at_level(logging.INFO, logger="retina_plugin"):
        cfg = load_config(DIGITS, [
            *CPU, "SOLVER.REFERENCE_BATCH_SIZE", 8, "SOLVER.IMS_PER_BATCH", 2, "SOLVER.BASE_LR", 0.01,
            "SOLVER.MAX_ITER", 100, "SOLVER.STEPS", "(60, 80)", "SOLVER.WARMUP_ITERS", 10,
            "TEST.EVAL_PERIOD", 50, "SOLVER.CHECKPOINT_PERIOD", 25,
        ])  # fmt: skip
    assert cfg.SOLVER.BASE_LR == 0.0025
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS, cfg.SOLVER.WARMUP_ITERS) == (400, (240, 320), 40)
    assert (cfg.TEST.EVAL_PERIOD, cfg.SOLVER.CHECKPOINT_PERIOD) == (200, 100)
    for change in ("batch size 2 instead of 8", "BASE_LR 0.01 -> 0.0025", "MAX_ITER 100 -> 400"):
        assert change in caplog.text


def test_without_a_reference_nothing_is_scaled():
    cfg = load_config(
        DIGITS, [*CPU, "SOLVER.REFERENCE_BATCH_SIZE", 0, "SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 500]
    )
    assert cfg.SOLVER.MAX_ITER == 500


def test_the_device_is_the_cpu_if_there_is_no_gpu():
    assert ("cuda" if torch.cuda.is_available() else "cpu") == load_config(DIGITS).MODEL.DEVICE


def test_epochs_are_converted_to_iterations(small_digits, caplog):
    batch = ["SOLVER.IMS_PER_BATCH", 2, "SOLVER.REFERENCE_BATCH_SIZE", 0]
    epochs = ["SOLVER.EPOCHS", 9, "SOLVER.WARMUP_EPOCHS", 1, "SOLVER.FREEZE_EPOCHS", 1, "TEST.EVAL_EPOCHS", 3]
    with caplog.at_level("INFO"):
        cfg = load_config(DIGITS, [*CPU, *batch, *epochs])
    # 8 images in batches of 2: 4 iterations per epoch.
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS) == (36, (24, 32))
    assert (cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.FREEZE_ITERS) == (4, 4)
    assert cfg.TEST.EVAL_PERIOD == cfg.SOLVER.CHECKPOINT_PERIOD == 12 and cfg.SOLVER.EPOCHS == 0
    assert "9 epochs of 8 images are 36 iterations, evaluated every 12" in caplog.text


def test_zero_epochs_between_evaluations_means_one_at_the_end(small_digits, caplog):
    epochs = ["SOLVER.IMS_PER_BATCH", 2, "SOLVER.REFERENCE_BATCH_SIZE", 0, "SOLVER.EPOCHS", 9, "TEST.EVAL_EPOCHS", 0]
    with caplog.at_level("INFO"):
        cfg = load_config(DIGITS, [*CPU, *epochs])
    assert (cfg.TEST.EVAL_PERIOD, cfg.SOLVER.CHECKPOINT_PERIOD) == (0, 4)
    assert "36 iterations, evaluated at the end" in caplog.text


def test_the_frozen_iterations_scale_with_the_batch_size():
    cfg = load_config(
        BASE, [*TINY, "SOLVER.REFERENCE_BATCH_SIZE", 8, "SOLVER.IMS_PER_BATCH", 2, "SOLVER.FREEZE_ITERS", 5]
    )
    assert cfg.SOLVER.FREEZE_ITERS == 20


def test_scaled_steps_stay_distinct():
    batch = ["SOLVER.REFERENCE_BATCH_SIZE", 1, "SOLVER.IMS_PER_BATCH", 64]
    cfg = load_config(BASE, [*TINY, *batch, "SOLVER.STEPS", (10, 12, 900), "SOLVER.MAX_ITER", 6400])
    assert cfg.SOLVER.STEPS == (1, 14)  # 10 / 64 and 12 / 64 are both less than one


def test_steps_that_training_never_reaches_are_removed_with_a_warning(caplog):
    cfg = load_config(BASE, [*TINY, "SOLVER.STEPS", (5, 10, 20), "SOLVER.MAX_ITER", 10])
    assert cfg.SOLVER.STEPS == (5,) and "WARNING" in caplog.text and "never drops at 10, 20" in caplog.text
    caplog.clear()
    assert load_config(BASE, [*TINY, "SOLVER.MAX_ITER", 10]).SOLVER.STEPS == () and "WARNING" not in caplog.text


@pytest.fixture()
def coco(tmp_path):
    """A dataset of two classes, registered in the usual way; its class names are known only after it was read."""
    images = [{"id": i, "file_name": f"{i}.png", "height": 8, "width": 8} for i in range(3)]
    annotations = [
        {"id": i + 1, "image_id": i, "category_id": 1 + i % 2, "bbox": [1, 1, 4, 4], "area": 16, "iscrowd": 0}
        for i in range(3)
    ]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "a.json").write_text(json.dumps(content), encoding="utf-8")
    name = f"coco_{tmp_path.name}"
    register_coco_instances(name, {}, str(tmp_path / "a.json"), str(tmp_path))
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def test_the_classes_of_register_coco_instances_are_read_from_its_file(coco):
    assert class_names(coco) is None
    cfg = load_config(BASE, [*TINY, "MODEL.RETINANET.NUM_CLASSES", 0, "DATASETS.TRAIN", (coco,)])
    assert cfg.MODEL.RETINANET.NUM_CLASSES == 2
    assert class_names(coco) == ["cat", "dog"]


def test_a_dataset_that_cannot_be_read_is_named(tmp_path):
    register_coco_instances("coco_gone", {}, str(tmp_path / "gone.json"), str(tmp_path))
    try:
        with pytest.raises(ValueError, match="the dataset coco_gone cannot be read"):
            load_config(BASE, [*TINY, "MODEL.RETINANET.NUM_CLASSES", 0, "DATASETS.TRAIN", ("coco_gone",)])
    finally:
        DatasetCatalog.remove("coco_gone")
        MetadataCatalog.remove("coco_gone")


def test_epochs_of_a_dataset_that_is_not_registered_stay(caplog):
    cfg = load_config(BASE, [*TINY, "SOLVER.EPOCHS", 3, "DATASETS.TRAIN", ("nowhere",)])
    assert cfg.SOLVER.EPOCHS == 3


def test_the_feature_maps_of_detectron2s_resnet_follow_from_the_levels():
    opts = [*TINY, "MODEL.BOTTOM_UP.NAME", "build_resnet_backbone"]
    cfg = load_config(BASE, opts)
    assert cfg.MODEL.RESNETS.OUT_FEATURES == ["res3", "res4", "res5"] and cfg.MODEL.RESNETS.RES2_OUT_CHANNELS == 64
    assert load_config(BASE, [*opts, "MODEL.RETINANET.LEVELS", [2, 3]]).MODEL.RESNETS.OUT_FEATURES == ["res2", "res3"]
    assert load_config(BASE, TINY).MODEL.RESNETS.OUT_FEATURES == [], "the plugin's ResNet does not read it"


def test_a_resolved_config_does_not_change_and_an_unresolved_one_lists_changes(small_digits):
    cfg = load_config(DIGITS, CPU)
    assert unresolved(cfg) == []
    changed = cfg.clone()
    changed.defrost()
    changed.SOLVER.IMS_PER_BATCH, changed.MODEL.RETINANET.NUM_CLASSES = 4, 0
    assert unresolved(changed, "MODEL.") == ["MODEL.RETINANET.NUM_CLASSES 0 -> 10"]
    assert "SOLVER.MAX_ITER 1000 -> 2000" in unresolved(changed)
    assert changed.SOLVER.MAX_ITER == 1000, "only tried"
