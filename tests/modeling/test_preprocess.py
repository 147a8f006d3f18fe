"""Normalisation and padding of the input images, and images that are refused."""

import numpy as np
import pytest
import torch
from support import make_inputs, tiny_cfg

from detectron2.modeling import build_model

from retina_plugin.modeling.preprocess import batch_images


def test_pixels_are_normalised_and_padding_is_zero():
    model = build_model(tiny_cfg("MODEL.PIXEL_MEAN", [10.0, 20.0, 30.0], "MODEL.PIXEL_STD", [2.0, 4.0, 5.0]))
    inputs = make_inputs([(60, 90), (64, 50)], [[], []], [[], []])
    batch = model.preprocess_image(inputs)
    assert batch.tensor.shape == (2, 3, 64, 96) and batch.image_sizes == [(60, 90), (64, 50)]
    assert batch.tensor.is_contiguous(memory_format=torch.channels_last)
    mean, std = torch.tensor([10.0, 20.0, 30.0]).view(3, 1, 1), torch.tensor([2.0, 4.0, 5.0]).view(3, 1, 1)
    torch.testing.assert_close(batch.tensor[1, :, :64, :50], (inputs[1]["image"] - mean) / std)
    assert batch.tensor[0, :, 60:].abs().max() == 0 and batch.tensor[0, :, :, 90:].abs().max() == 0


NO_IMAGES = [
    None,
    np.zeros((64, 64, 3), dtype=np.uint8),
    *(torch.zeros(shape) for shape in [(64, 64), (1, 64, 64), (4, 64, 64), (64, 64, 3), (1, 3, 64, 64)]),
    *(torch.zeros(shape) for shape in [(3, 0, 64), (3, 64, 0)]),
    torch.zeros(3, 8, 8, dtype=torch.complex64),
]


def shape_of(image):
    return "x".join(map(str, getattr(image, "shape", ()))) or "None"


@pytest.mark.parametrize("image", NO_IMAGES, ids=shape_of)
@pytest.mark.parametrize("training", [True, False])
def test_an_invalid_image_is_refused_with_input_and_file(image, training):
    """Without the check, one channel would be broadcast to three, and other shapes would fail deep inside PyTorch."""
    model = build_model(tiny_cfg()).train(training)
    inputs = make_inputs([(64, 64), (64, 64)], [[], []], [[], []])
    inputs[1] |= {"image": image, "file_name": "a/b.png"}
    with pytest.raises(ValueError, match=r"'image' of input 1 \(a/b.png\) must be a tensor \(3, height, width\)"):
        model(inputs)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.float16, torch.int32])
def test_pixels_of_any_real_dtype_are_accepted(dtype):
    model = build_model(tiny_cfg()).eval()
    inputs = make_inputs([(64, 96)], [[]], [[]])
    want = model.preprocess_image(inputs).tensor
    inputs[0]["image"] = inputs[0]["image"].to(dtype)
    torch.testing.assert_close(model.preprocess_image(inputs).tensor, want, rtol=0, atol=0)


@pytest.mark.parametrize(
    "divisor, square_size, want", [(1, 0, (7, 5)), (0, 0, (7, 5)), (4, 0, (8, 8)), (4, 16, (16, 16))]
)
def test_the_size_of_the_batch_follows_from_divisor_and_square_size(divisor, square_size, want):
    images, zero, one = [torch.ones(3, 7, 2), torch.ones(3, 3, 5)], torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
    options = {"divisor": divisor, "square_size": square_size, "memory_format": torch.contiguous_format}
    batch = batch_images(images, zero, one, **options)
    assert batch.tensor.shape == (2, 3, *want) and batch.image_sizes == [(7, 2), (3, 5)]
    assert batch.tensor.sum(dim=(1, 2, 3)).tolist() == [3 * 7 * 2, 3 * 3 * 5]
