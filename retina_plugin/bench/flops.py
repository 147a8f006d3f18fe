"""The speed of a training step relative to plain matrix products, and the speed of convolutions."""

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from detectron2.utils.events import EventStorage

from retina_plugin.bench.measure import alternate, median_and_spread
from retina_plugin.bench.model_cases import plugin_model, training_inputs

SIDE = 4096
"""Rows and columns of the matrices, large enough that their product runs at full speed."""

MAP = 64
"""Height and width of the convolution's feature map, that of P3 for a 512 x 512 image."""


def training_flops(device: torch.device) -> int:
    """Count the floating-point operations of the benchmark's training step; a multiply-add counts as two."""
    model, inputs = plugin_model()(device).train(), training_inputs(device)
    with FlopCounterMode(display=False) as counter, EventStorage():
        sum(model(inputs).values()).backward()
    return counter.get_total_flops()


def matmul_speed(dtype: torch.dtype, device: torch.device) -> float:
    """Measure the operations per second of a product of two square matrices of shape (SIDE, SIDE)."""
    a, b = (torch.randn(SIDE, SIDE, device=device).to(dtype) for _ in range(2))
    seconds = alternate({"product": lambda: a @ b}, rounds=5, device=device)["product"]
    return 2 * SIDE**3 / median_and_spread(seconds)[0]


def convolution_speed(dtype: torch.dtype, device: torch.device) -> float:
    """Measure the operations per second of a 3x3 convolution with its gradients, as in the head.

    It has 256 channels and an input of shape (2, 256, MAP, MAP).
    """
    layout = torch.channels_last
    conv = torch.nn.Conv2d(256, 256, kernel_size=3, padding=1, device=device, dtype=dtype).to(memory_format=layout)
    x = torch.randn(2, 256, MAP, MAP, device=device, dtype=dtype).to(memory_format=layout).requires_grad_()
    seed = torch.randn_like(x)
    seconds = alternate({"convolution": lambda: conv(x).backward(seed)}, rounds=5, device=device)["convolution"]
    return 3 * 2 * 2 * MAP**2 * 256 * 256 * 9 / median_and_spread(seconds)[0]


def share_of_convolutions(device: torch.device) -> float:
    """Measure the share of a training step's time, 0..1, that PyTorch's profiler attributes to convolutions."""
    model, inputs = plugin_model()(device).train(), training_inputs(device)

    def step() -> None:
        """Compute the losses and the gradients."""
        with EventStorage():
            sum(model(inputs).values()).backward()

    step()
    with torch.profiler.profile() as profile:
        step()
    field = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    times = [(event.key, getattr(event, field)) for event in profile.key_averages()]
    return sum(time for key, time in times if "convolution" in key) / sum(time for _, time in times)


def share_of_matmul(step_seconds: float, device: torch.device) -> str:
    """Describe the speed of a training step relative to matrix products of its type, and the share of convolutions.

    Args:
        step_seconds: measured time of the training step.
        device: the device on which it was measured.
    """
    model: Any = plugin_model()(device)
    dtype: torch.dtype = model.autocast_dtype or torch.float32
    flops, peak = training_flops(device), matmul_speed(dtype, device)
    speed = flops / step_seconds
    float32, bfloat16 = (convolution_speed(x, device) for x in (torch.float32, torch.bfloat16))
    return (
        f"a training step takes {flops / 1e9:,.0f} GFLOP and runs at {speed / 1e9:,.0f} GFLOP/s, "
        f"{100 * speed / peak:.0f} % of the {peak / 1e9:,.0f} GFLOP/s of a {SIDE} x {SIDE} matrix product in "
        f"{str(dtype).removeprefix('torch.')}; a 3x3 convolution of 256 channels with its gradients runs at "
        f"{float32 / 1e9:,.0f} GFLOP/s in float32 and {bfloat16 / 1e9:,.0f} in bfloat16; "
        f"{100 * share_of_convolutions(device):.0f} % of the step's time is spent in convolutions"
    )


def matmul_ratio(device: torch.device) -> str:
    """Describe how much faster matrix products are in bfloat16 than in float32, which bounds what precision gives."""
    float32, bfloat16 = (matmul_speed(x, device) for x in (torch.float32, torch.bfloat16))
    return (
        f"a {SIDE} x {SIDE} matrix product runs at {float32 / 1e9:,.0f} GFLOP/s in float32 and at "
        f"{bfloat16 / 1e9:,.0f} in bfloat16, {bfloat16 / float32:.2f} times faster"
    )
