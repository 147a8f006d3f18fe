"""Augmentations by key, and boxes that follow them."""

import numpy as np
import torch
from conftest import ROOT
from detectron2.data import DatasetCatalog
from detectron2.data import transforms as T

from retina_plugin import load_config
from retina_plugin.data.mapper import build_train_augmentations, build_train_mapper

DIGITS = ROOT / "configs/digits/quickstart.yaml"


def cfg_with(*opts):
    return load_config(DIGITS, ["MODEL.DEVICE", "cpu", *opts])


def test_each_key_adds_its_augmentation():
    def kinds(*opts):
        return [type(a) for a in build_train_augmentations(cfg_with("INPUT.COLOR_JITTER", 0.0, *opts))]

    assert kinds() == [T.ResizeShortestEdge]
    assert kinds("INPUT.RANDOM_FLIP", "horizontal", "INPUT.RANDOM_FLIP_VERTICAL", True) == [T.ResizeShortestEdge, T.RandomFlip, T.RandomFlip]
    assert kinds("INPUT.CROP.ENABLED", True) == [T.RandomCrop, T.ResizeShortestEdge]
    assert kinds("INPUT.COLOR_JITTER", 0.3)[1:] == [T.RandomBrightness, T.RandomContrast, T.RandomSaturation]


def test_an_upside_down_image_has_upside_down_boxes(small_digits, monkeypatch):
    monkeypatch.setattr(T.RandomFlip, "_rand_range", lambda self, *a, **k: 0.0)  # always flip
    record = DatasetCatalog.get("digits_train")[0]
    plain = build_train_mapper(cfg_with("INPUT.MIN_SIZE_TRAIN", "(192,)", "INPUT.COLOR_JITTER", 0.0))(record)
    flipped = build_train_mapper(cfg_with("INPUT.MIN_SIZE_TRAIN", "(192,)", "INPUT.COLOR_JITTER", 0.0, "INPUT.RANDOM_FLIP_VERTICAL", True))(record)
    torch.testing.assert_close(flipped["image"], plain["image"].flip(1))
    a, b = plain["instances"].gt_boxes.tensor, flipped["instances"].gt_boxes.tensor
    torch.testing.assert_close(b[:, [1, 3]], 192 - a[:, [3, 1]])


def test_colour_jitter_leaves_the_boxes_alone(small_digits):
    np.random.seed(0)
    record = DatasetCatalog.get("digits_train")[0]
    plain = build_train_mapper(cfg_with("INPUT.MIN_SIZE_TRAIN", "(192,)", "INPUT.COLOR_JITTER", 0.0))(record)
    other = build_train_mapper(cfg_with("INPUT.MIN_SIZE_TRAIN", "(192,)", "INPUT.COLOR_JITTER", 0.5))(record)
    assert not torch.equal(plain["image"], other["image"])
    torch.testing.assert_close(plain["instances"].gt_boxes.tensor, other["instances"].gt_boxes.tensor)
