"""What share of the speed of plain matrix products a training step reaches, and how fast a convolution can be."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from detectron2.utils.events import EventStorage

from retina_plugin.bench.benchmarks import plugin_model, training_inputs
from retina_plugin.bench.measure import alternate, median_and_spread

SIDE = 4096
"""Rows and columns of the matrices: large enough that their product runs at full speed."""


MAP = 64
"""Height and width of the map for the speed of a convolution: P3 of a 512 x 512 image."""


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


def convolution_speed(dtype: torch.dtype, device: torch.device) -> float:
    """Operations a second of a 3x3 convolution of 256 channels on two maps of 64 x 64, as the head has them, with its gradients."""
    conv = torch.nn.Conv2d(256, 256, kernel_size=3, padding=1, device=device, dtype=dtype).to(
        memory_format=torch.channels_last
    )
    x = torch.randn(2, 256, MAP, MAP, device=device, dtype=dtype).to(memory_format=torch.channels_last).requires_grad_()
    seed = torch.randn_like(x)
    seconds = alternate({"convolution": lambda: conv(x).backward(seed)}, rounds=5, device=device)["convolution"]
    return 3 * 2 * 2 * MAP**2 * 256 * 256 * 9 / median_and_spread(seconds)[0]


def share_of_convolutions(device: torch.device) -> float:
    """Part of the time of a training step, 0..1, that PyTorch's profiler sees in convolutions and their gradients."""
    model, inputs = plugin_model()(device).train(), training_inputs(device)

    def step() -> None:
        with EventStorage():
            sum(model(inputs).values()).backward()

    step()
    with torch.profiler.profile() as profile:
        step()
    field = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    times = [(event.key, getattr(event, field)) for event in profile.key_averages()]
    return sum(time for key, time in times if "convolution" in key) / sum(time for _, time in times)


def share_of_matmul(step_seconds: float, device: torch.device) -> str:
    """In words: operations of a training step, its speed, that of matrix products of the same type, and what part convolutions have."""
    dtype = plugin_model()(device).autocast_dtype or torch.float32
    flops, peak = training_flops(device), matmul_speed(dtype, device)
    return (
        f"a training step takes {flops / 1e9:,.0f} GFLOP and runs at {flops / step_seconds / 1e9:,.0f} GFLOP/s, "
        f"{100 * flops / step_seconds / peak:.0f} % of the {peak / 1e9:,.0f} GFLOP/s of a {SIDE} x {SIDE} matrix product in {str(dtype).removeprefix('torch.')}; "
        f"a 3x3 convolution of 256 channels with its gradients runs at {convolution_speed(torch.float32, device) / 1e9:,.0f} GFLOP/s in float32 "
        f"and {convolution_speed(torch.bfloat16, device) / 1e9:,.0f} in bfloat16; "
        f"{100 * share_of_convolutions(device):.0f} % of the step's time is spent in convolutions"
    )
