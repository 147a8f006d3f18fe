"""Mappers: augmentations by config key, boxes that follow them, and errors."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pictures import picture, tiff, turned
from PIL import Image
from support import ROOT

from detectron2.data import DatasetCatalog, DatasetMapper
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.structures import BoxMode

from retina_plugin import load_config
from retina_plugin.data.image_files import ImageError
from retina_plugin.data.mapper import (
    CvResizeShortestEdge,
    RetinaMapper,
    build_augmentations,
    build_mapper,
    contiguous,
    read_image,
    reduction,
)

DIGITS = ROOT / "configs/digits/quickstart.yaml"


def cfg_with(*opts):
    return load_config(DIGITS, ["MODEL.DEVICE", "cpu", *opts])


def test_each_config_key_adds_its_augmentation():
    def kinds(*opts):
        return [type(a) for a in build_augmentations(cfg_with("INPUT.COLOR_JITTER", 0.0, *opts), is_train=True)]

    assert kinds() == [CvResizeShortestEdge]
    flips = kinds("INPUT.RANDOM_FLIP", "horizontal", "INPUT.RANDOM_FLIP_VERTICAL", True)
    assert flips == [CvResizeShortestEdge, T.RandomFlip, T.RandomFlip]
    assert kinds("INPUT.ROTATE_90", True) == [CvResizeShortestEdge, T.RandomRotation]
    assert kinds("INPUT.CROP.ENABLED", True) == [T.RandomCrop, CvResizeShortestEdge]
    assert kinds("INPUT.COLOR_JITTER", 0.3)[1:] == [T.RandomBrightness, T.RandomContrast, T.RandomSaturation]


def at_full_size(record, *opts, jitter=0.0):
    """Map a record of the digits without resizing it."""
    cfg = cfg_with("INPUT.MIN_SIZE_TRAIN", "(192,)", "INPUT.COLOR_JITTER", jitter, *opts)
    return build_mapper(cfg, is_train=True)(record)


def test_a_vertical_flip_mirrors_image_and_boxes(small_digits, monkeypatch):
    monkeypatch.setattr(T.RandomFlip, "_rand_range", lambda self, *a, **k: 0.0)  # always flip
    record = DatasetCatalog.get("digits_train")[0]
    plain = at_full_size(record)
    flipped = at_full_size(record, "INPUT.RANDOM_FLIP_VERTICAL", True)
    torch.testing.assert_close(flipped["image"], plain["image"].flip(1))
    a, b = plain["instances"].gt_boxes.tensor, flipped["instances"].gt_boxes.tensor
    torch.testing.assert_close(b[:, [1, 3]], 192 - a[:, [3, 1]])


def test_colour_jitter_does_not_change_the_boxes(small_digits):
    np.random.seed(0)
    record = DatasetCatalog.get("digits_train")[0]
    plain, other = at_full_size(record), at_full_size(record, jitter=0.5)
    assert not torch.equal(plain["image"], other["image"])
    torch.testing.assert_close(plain["instances"].gt_boxes.tensor, other["instances"].gt_boxes.tensor)


@pytest.fixture()
def photograph(tmp_path):
    """Return a record of a smooth 640 x 480 JPEG with three boxes, one of them a crowd, one partly outside."""
    y, x = np.mgrid[:480, :640]
    pixels = np.stack([x / 640 * 255, y / 480 * 255, 128 + 100 * np.sin(x / 40) * np.cos(y / 30)], axis=2)
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "photo.jpg", quality=95)
    box = {"bbox_mode": BoxMode.XYWH_ABS, "iscrowd": 0}
    annotations = [
        {**box, "bbox": [10.5, 20, 100, 50.25], "category_id": 3},
        {**box, "bbox": [0, 0, 50, 50], "category_id": 1, "iscrowd": 1},
        {"bbox_mode": BoxMode.XYXY_ABS, "bbox": [600.0, 400.0, 660.0, 490.0], "category_id": 0, "iscrowd": 0},
    ]
    image = {"file_name": str(tmp_path / "photo.jpg"), "height": 480, "width": 640, "image_id": 7}
    return {**image, "annotations": annotations}


def mapper_of(*augmentations, image_format="BGR"):
    return RetinaMapper(augmentations=list(augmentations), image_format=image_format, is_train=True)


@pytest.mark.parametrize("size", [200, 333, 480, 800])
def test_boxes_equal_detectron2s_and_pixels_almost(photograph, size):
    flip = T.RandomFlip(prob=1.0)
    ours = mapper_of(CvResizeShortestEdge(size, 1333, "choice"), flip)(photograph)
    augmentations = [T.ResizeShortestEdge(size, 1333, "choice"), flip]
    theirs = DatasetMapper(is_train=True, augmentations=augmentations, image_format="BGR")(photograph)
    boxes, want = ours["instances"].gt_boxes.tensor, theirs["instances"].gt_boxes.tensor
    torch.testing.assert_close(boxes, want, rtol=0, atol=1e-4)
    assert ours["instances"].gt_classes.tolist() == theirs["instances"].gt_classes.tolist() == [3, 0]
    assert ours["image"].shape == theirs["image"].shape and ours["image"].dtype == torch.uint8
    difference = (ours["image"].float() - theirs["image"].float()).abs()
    assert difference.mean() < 1.0 and difference.max() <= 12
    assert "annotations" in photograph and "annotations" not in ours


@pytest.mark.parametrize(
    "size, target, want",
    [
        ((480, 640), (800, 1067), 1),
        ((3000, 4000), (800, 1067), 2),
        ((3200, 4268), (800, 1067), 4),
        ((480, 640), (60, 80), 8),
    ],
)
def test_the_fraction_at_which_a_jpeg_is_decoded(size, target, want):
    assert reduction(size, target) == want


def test_the_reader_detectron2_returns_the_pixels_of_detectron2(photograph):
    opts = ["INPUT.READER", "detectron2", "MODEL.PIXELS_FROM", "config", "INPUT.MIN_SIZE_TRAIN", "(200,)"]
    cfg = cfg_with(*opts, "INPUT.COLOR_JITTER", 0.0, "INPUT.RANDOM_FLIP", "none")
    resize = T.ResizeShortestEdge(200, 1333, "choice")
    theirs = DatasetMapper(is_train=True, augmentations=[resize], image_format="BGR")(photograph)
    assert torch.equal(build_mapper(cfg, is_train=True)(photograph)["image"], theirs["image"])


@pytest.mark.parametrize("image_format", ["BGR", "RGB"])
def test_rotated_grey_and_transparent_images_are_read_as_detectron2_does(tmp_path, image_format):
    pixels = np.arange(40 * 30 * 3, dtype=np.uint8).reshape(40, 30, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.png")
    Image.fromarray(np.dstack([pixels, pixels[..., :1]]), mode="RGBA").save(tmp_path / "clear.png")
    for file in ("turned.png", "grey.png", "clear.png"):
        want = utils.read_image(str(tmp_path / file), format=image_format)
        assert np.array_equal(read_image(str(tmp_path / file), image_format), want), file
    assert read_image(str(tmp_path / "turned.png"), "BGR").shape == (30, 40, 3)


def test_a_wrong_size_and_missing_and_broken_files_are_errors(photograph, tmp_path):
    mapper = mapper_of(CvResizeShortestEdge(100, 1333, "choice"))
    for wrong in (500, 641):  # also by one pixel, although the JPEG is decoded at a fraction of its size
        with pytest.raises(utils.SizeMismatchError, match="photo.jpg"):
            mapper({**photograph, "width": wrong})
    with pytest.raises(FileNotFoundError, match="absent.jpg"):
        mapper({**photograph, "file_name": str(tmp_path / "absent.jpg")})
    (tmp_path / "broken.jpg").write_text("no image")
    with pytest.raises(OSError, match="broken.jpg"):
        mapper({**photograph, "file_name": str(tmp_path / "broken.jpg")})
    whole = (tmp_path / "photo.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(OSError, match="truncated"):
        mapper({**photograph, "file_name": str(tmp_path / "half.jpg")})


def test_the_evaluation_mapper_adds_no_instances_and_is_deterministic(photograph):
    mapper = build_mapper(cfg_with("INPUT.MIN_SIZE_TEST", 96, "INPUT.MAX_SIZE_TEST", 1333), is_train=False)
    record = mapper(photograph)
    assert "instances" not in record and record["image"].shape == (3, 96, 128)
    assert torch.equal(record["image"], mapper(photograph)["image"])


@pytest.mark.parametrize("rows, columns", [(1, 1), (1, -1), (-1, 1), (-1, -1)])
def test_the_contiguous_copy_of_a_mirrored_view_is_equal(rows, columns):
    view = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)[::rows, ::columns]
    copy = contiguous(view)
    assert np.array_equal(copy, view) and copy.flags.c_contiguous


def test_only_a_jpeg_is_decoded_at_a_fraction_of_its_size(photograph, tmp_path):
    assert read_image(photograph["file_name"], "BGR", reduce=2).shape == (240, 320, 3)
    Image.open(photograph["file_name"]).save(tmp_path / "photo.png")
    assert read_image(str(tmp_path / "photo.png"), "BGR", reduce=2).shape == (480, 640, 3)


def test_a_single_channel_survives_resizing_and_flipping(photograph):
    mapper = mapper_of(CvResizeShortestEdge(100, 1333, "choice"), T.RandomFlip(prob=1.0), image_format="L")
    assert mapper(photograph)["image"].shape == (1, 100, 133)


def test_crowds_become_ignore_boxes_that_follow_the_image(tmp_path):
    Image.fromarray(np.zeros((50, 100, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    annotations = [
        {"bbox": [10, 10, 20, 20], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0},
        {"bbox": [0, 0, 40, 50], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0, "iscrowd": 1},
    ]
    record = {"file_name": str(tmp_path / "a.png"), "height": 50, "width": 100, "annotations": annotations}
    mapper = mapper_of(CvResizeShortestEdge(100, 1333, "choice"), T.RandomFlip(prob=1.0))
    out = mapper(record)
    assert len(out["instances"]) == 1
    assert out["ignore_boxes"].tolist() == [[120, 0, 200, 100]]  # mirrored in 200 px
    del annotations[1]
    assert "ignore_boxes" not in mapper(record)


@pytest.mark.parametrize(
    "angle, want", [(0, [10, 5, 40, 25]), (90, [5, 60, 25, 90]), (180, [60, 25, 90, 45]), (270, [25, 10, 45, 40])]
)
def test_a_rotated_box_is_where_its_pixels_are(tmp_path, angle, want):
    pixels = np.zeros((50, 100, 3), dtype=np.uint8)
    pixels[5:25, 10:40] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    annotations = [{"bbox": [10, 5, 40, 25], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0}]
    record = {"file_name": str(tmp_path / "a.png"), "height": 50, "width": 100, "annotations": annotations}
    out = mapper_of(T.RandomRotation([angle], sample_style="choice"))(record)
    (box,) = out["instances"].gt_boxes.tensor
    assert box.tolist() == pytest.approx(want, abs=1)
    x1, y1, x2, y2 = (round(float(v)) for v in box)
    image = out["image"][0]
    assert image[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].min() > 250
    assert (image > 128).sum() == pytest.approx(600, abs=60)


@pytest.mark.parametrize("reader", ["opencv", "detectron2"])
def test_both_readers_map_a_rotated_deep_image_with_its_boxes_and_crowds(tmp_path, reader):
    (tmp_path / "a.tif").write_bytes(tiff(picture(40, 60, dtype="u2") * np.uint16(16), orientation=6))
    annotations = [
        {"bbox": [5, 5, 20, 20], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 1},
        {"bbox": [0, 0, 9, 9], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0, "iscrowd": 1},
    ]
    record = {"file_name": str(tmp_path / "a.tif"), "height": 60, "width": 40, "annotations": annotations}
    opts = ["INPUT.READER", reader, "INPUT.FORMAT", "RGB", "INPUT.VALUE_RANGE", (0, 4080)]
    opts += ["INPUT.MIN_SIZE_TRAIN", "(80,)", "INPUT.COLOR_JITTER", 0.0, "INPUT.RANDOM_FLIP", "none"]
    out = build_mapper(cfg_with(*opts), is_train=True)(record)
    assert out["image"].shape == (3, 120, 80) and out["image"].dtype == torch.uint8
    assert out["instances"].gt_boxes.tensor.tolist() == [[10, 10, 40, 40]]
    assert out["ignore_boxes"].tolist() == [[0, 0, 18, 18]]
    small = out["image"].permute(1, 2, 0).numpy()[1::2, 1::2].astype(float)
    assert np.abs(small - turned(picture(40, 60), 6)).mean() < 4


@pytest.mark.parametrize("reader", ["opencv", "detectron2"])
def test_an_image_error_of_either_reader_has_file_and_reason(photograph, reader):
    strict = build_mapper(cfg_with("INPUT.READER", reader, "INPUT.MAX_IMAGE_PIXELS", 640 * 480 - 1), is_train=False)
    with pytest.raises(ImageError) as caught:
        strict(photograph)
    assert caught.value.file == photograph["file_name"] and "INPUT.MAX_IMAGE_PIXELS" in caught.value.reason
    file = Path(photograph["file_name"])
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ImageError, match="truncated"):
        build_mapper(cfg_with("INPUT.READER", reader), is_train=False)(photograph)


def test_a_motion_photo_is_decoded_at_a_fraction_of_its_size(photograph):
    with open(photograph["file_name"], "ab") as stream:
        stream.write(b"\0\0\0\x18ftypmp42" + bytes(100_000))
    assert read_image(photograph["file_name"], "BGR", reduce=4).shape == (120, 160, 3)


def test_the_contiguous_copy_of_a_read_only_image_is_writable():
    view = np.zeros((4, 5, 3), np.uint8)
    view.setflags(write=False)
    assert contiguous(view).flags.writeable


@pytest.mark.parametrize("sized", [True, False])
def test_an_image_without_pixels_after_resizing_is_an_image_error(tmp_path, sized):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((2, 3000, 3), np.uint8))
    size = {"height": 2, "width": 3000} if sized else {}
    with pytest.raises(ImageError, match="a.png is 3000x2, which leaves 427x0 pixels"):
        mapper_of(CvResizeShortestEdge(320, 427))({"file_name": str(tmp_path / "a.png"), "annotations": [], **size})
