"""The size and the pixels are those of the mapper, which evaluation uses."""

import cv2
import numpy as np
import pytest
import torch
from support import tiny_cfg

from detectron2.data.transforms import ResizeShortestEdge

from retina_plugin.data.mapper import build_mapper
from retina_plugin.data.resize import output_size, read_resized
from retina_plugin.data.strangers_files import ImageError


def test_sizes_are_those_of_detectron2():
    rng = np.random.default_rng(0)
    for _ in range(300):
        height, width, shorter, longest = (int(x) for x in rng.integers(1, 2000, 4))
        expected = ResizeShortestEdge.get_output_shape(height, width, shorter, max(shorter, longest))
        assert output_size(height, width, shorter, max(shorter, longest)) == expected
    assert output_size(7, 9, 0, 5) == (7, 9)


@pytest.mark.parametrize("size", [(60, 80), (900, 700), (2000, 1500)])
@pytest.mark.parametrize("image_format", ["BGR", "RGB"])
@pytest.mark.parametrize("reader", ["opencv"])
def test_pixels_are_those_of_the_mapper(tmp_path, size, image_format, reader):
    small = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    file = str(tmp_path / "x.jpg")
    cv2.imwrite(file, cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC))
    keys = ["INPUT.MIN_SIZE_TEST", 200, "INPUT.MAX_SIZE_TEST", 400]
    cfg = tiny_cfg(*keys, "INPUT.FORMAT", image_format, "INPUT.READER", reader, "MODEL.PIXELS_FROM", "config")
    mapped = build_mapper(cfg, is_train=False)({"file_name": file, "height": size[0], "width": size[1]})
    pixels, *found = read_resized(file, shorter=200, longest=400, image_format=image_format, reader=reader)
    assert tuple(found) == size and torch.equal(mapped["image"], torch.from_numpy(pixels.transpose(2, 0, 1).copy()))


def test_an_image_without_pixels_left_is_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "x.png"), np.zeros((1, 5000, 3), np.uint8))
    with pytest.raises(ImageError, match="cut it into pieces"):
        read_resized(str(tmp_path / "x.png"), shorter=800, longest=1333, image_format="BGR")
