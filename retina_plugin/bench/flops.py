"""What share of the speed of plain matrix products a training step reaches."""

import torch
from detectron2.utils.events import EventStorage
from torch.utils.flop_counter import FlopCounterMode

from retina_plugin.bench.cases import plugin_model, training_inputs
from retina_plugin.bench.measure import alternate, median_and_spread

SIDE = 4096
"""Rows and columns of the matrices: large enough that their product runs at full speed."""


def training_flops(device: torch.device) -> int:
    """Floating-point operations (a multiplication and an addition are two) of the training step of the benchmark."""
    model, inputs = plugin_model()(device).train(), training_inputs(device)
    with FlopCounterMode(display=False) as counter, EventStorage():
        sum(model(inputs).values()).backward()
    return counter.get_total_flops()


def matmul_speed(dtype: torch.dtype, device: torch.device) -> float:
    """Operations a second of a product of two square matrices."""
    a, b = (torch.randn(SIDE, SIDE, device=device).to(dtype) for _ in range(2))
    seconds = alternate({"product": lambda: a @ b}, rounds=5, device=device)["product"]
    return 2 * SIDE**3 / median_and_spread(seconds)[0]


def share_of_matmul(step_seconds: float, device: torch.device) -> str:
    """One line: operations of a training step, its speed, and the speed of matrix products of the same type."""
    dtype = plugin_model()(device).autocast_dtype or torch.float32
    flops, peak = training_flops(device), matmul_speed(dtype, device)
    return (
        f"a training step takes {flops / 1e9:,.0f} GFLOP and runs at {flops / step_seconds / 1e9:,.0f} GFLOP/s, "
        f"{100 * flops / step_seconds / peak:.0f} % of the {peak / 1e9:,.0f} GFLOP/s of a {SIDE} x {SIDE} matrix product in {str(dtype).removeprefix('torch.')}"
    )
