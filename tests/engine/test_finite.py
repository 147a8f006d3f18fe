"""Tensors that are not finite are named."""

import pytest
import torch

from retina_plugin.engine.finite import non_finite


@pytest.mark.parametrize(
    "value, bad",
    [(float("inf"), True), (float("-inf"), True), (float("nan"), True), (3e38, False), (0.0, False), (-1e-45, False)],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_one_number_among_many(value, bad, dtype):
    tensor = torch.zeros(1000, dtype=dtype)
    tensor[500] = value
    others = {"fine": torch.ones(3), "whole": torch.tensor([1]), "empty": torch.zeros(0)}
    assert non_finite({"x": tensor, **others}) == (["x"] if bad else [])


def test_without_floating_point_tensors_nothing_is_named():
    assert non_finite({}) == [] and non_finite({"n": torch.tensor(1)}) == []
