"""Mistakes that are caught at start-up, with the keys that cause them."""

import pytest
from support import BASE, ROOT, TINY

from retina_plugin import load_config

DIGITS = ROOT / "configs/digits/quickstart.yaml"
CPU = ["MODEL.DEVICE", "cpu"]


def test_a_class_count_that_disagrees_with_the_dataset_is_refused():
    with pytest.raises(ValueError, match=r"NUM_CLASSES is 80, but the dataset digits_train has 10 classes \(0, 1, 2"):
        load_config(DIGITS, [*CPU, "MODEL.RETINANET.NUM_CLASSES", "80"])


def test_no_class_count_and_no_dataset_is_refused():
    with pytest.raises(ValueError, match="none of DATASETS"):
        load_config(BASE, CPU)


def test_training_and_test_data_with_different_classes_are_refused():
    with pytest.raises(ValueError, match="digits_train and bccd_val have different classes"):
        load_config(DIGITS, [*CPU, "DATASETS.TEST", "('bccd_val',)"])


@pytest.mark.parametrize(
    "key, value, meant",
    [
        ("MODEL.ROI_HEADS.NUM_CLASSES", 3, "MODEL.RETINANET.NUM_CLASSES"),
        ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.5, "MODEL.RETINANET.SCORE_THRESH_TEST"),
    ],
)
def test_keys_of_rcnn_are_refused_with_the_key_that_is_meant(key, value, meant):
    with pytest.raises(ValueError, match=f"{key} is set to {value}, which has no effect on a RetinaNet; set {meant}"):
        load_config(DIGITS, [*CPU, key, value])


def test_all_problems_are_listed_at_once():
    wrong = ["MODEL.ROI_HEADS.NUM_CLASSES", 3, "SOLVER.OPTIMIZER", "adam", "MODEL.RETINANET.NUM_CLASSES", 2]
    with pytest.raises(ValueError) as error:
        load_config(DIGITS, [*CPU, *wrong])
    for part in ("ROI_HEADS.NUM_CLASSES", "SOLVER.OPTIMIZER is 'adam'", "NUM_CLASSES is 2"):
        assert part in str(error.value)


def test_an_unknown_meta_architecture_is_refused_and_detectron2s_are_accepted():
    with pytest.raises(ValueError, match="META_ARCHITECTURE is 'RetinaNett'.* Did you mean 'RetinaNet'"):
        load_config(DIGITS, [*CPU, "MODEL.META_ARCHITECTURE", "RetinaNett"])
    cfg = load_config(DIGITS, [*CPU, "MODEL.META_ARCHITECTURE", "RetinaNet"])
    assert cfg.MODEL.RETINANET.IN_FEATURES == ["p3", "p4", "p5"]


def test_keys_of_a_different_detector_are_refused_for_a_retinanet_only():
    with pytest.raises(
        ValueError, match="ROI_HEADS.SCORE_THRESH_TEST is set to 0.3, which has no effect on a RetinaNet"
    ):
        load_config(DIGITS, [*CPU, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.3])
    rcnn = DIGITS.with_name("faster_rcnn.yaml")
    assert load_config(rcnn, [*CPU, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.3]).MODEL.ROI_HEADS.NUM_CLASSES == 10


@pytest.mark.parametrize("opts", [["MODEL.RESNETS.NORM", "FrozenBN"], ["MODEL.BACKBONE.FREEZE_AT", 2]])
def test_frozen_random_layers_are_refused(opts):
    with pytest.raises(ValueError, match="MODEL.WEIGHTS is empty"):
        load_config(BASE, [*TINY, *opts])


@pytest.mark.parametrize(
    "opts, message",
    [
        (["SOLVER.EMA_DECAY", 1.0], "EMA_DECAY is 1.0; it must be a finite number at least 0 and below 1"),
        (["SOLVER.ACCUMULATE", 3], "divide SOLVER.IMS_PER_BATCH 8; got 3"),
        (["DATALOADER.EMPTY_IMAGES", 2.0], "EMPTY_IMAGES is 2.0; it must be a finite number at least 0 and at most 1"),
        (["TEST.EARLY_STOP_PATIENCE", 3], "needs TEST.BEST_METRIC and evaluations"),
    ],
)
def test_a_schedule_that_cannot_work_is_refused(opts, message):
    with pytest.raises(ValueError, match=message):
        load_config(DIGITS, [*CPU, *opts])


def test_epochs_of_a_missing_dataset_are_refused_with_its_name():
    with pytest.raises(ValueError, match=r"none of DATASETS \['nowhere'\]"):
        load_config(ROOT / "configs/finetune.yaml", [*CPU, "DATASETS.TRAIN", ("nowhere",)])
