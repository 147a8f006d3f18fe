"""Operations of a training step and the speed of a matrix product."""

import pytest
import torch

from retina_plugin.bench import flops
from retina_plugin.bench.implementations import random_inputs

CPU = torch.device("cpu")


@pytest.mark.slow
def test_share_is_operations_per_time_relative_to_matrix_products(monkeypatch):
    monkeypatch.setattr(flops, "training_inputs", lambda device: random_inputs((64, 64), batch=2, num_boxes=3))
    monkeypatch.setattr(flops, "matmul_speed", lambda dtype, device: 1e12)
    monkeypatch.setattr(flops, "convolution_speed", lambda dtype, device: 2e9 if dtype == torch.float32 else 3e9)
    operations = flops.training_flops(CPU)
    # R-50 at 800 x 1216 has about 240 G multiply-adds in the forward pass (fvcore counts one each); a 64 x 64 image has
    # 1 / 237 of that, so two images 4 GFLOP; with both gradients, except in frozen stages, nearly three times that.
    assert 8e9 < operations < 20e9
    assert f"{100 * operations / 0.1 / 1e12:.0f} % of the 1,000 GFLOP/s" in flops.share_of_matmul(0.1, CPU)
    assert 0.1 < flops.share_of_convolutions(CPU) < 1
    assert "2 GFLOP/s in float32 and 3 in bfloat16" in flops.share_of_matmul(0.1, CPU)


@pytest.mark.slow
def test_speeds_are_measured(monkeypatch):
    monkeypatch.setattr(flops, "SIDE", 64)
    monkeypatch.setattr(flops, "MAP", 4)
    assert flops.convolution_speed(torch.float32, CPU) > 1e6
    assert flops.matmul_speed(torch.float32, CPU) > 1e6
    with pytest.raises(RuntimeError):
        flops.matmul_speed(torch.bool, CPU)
