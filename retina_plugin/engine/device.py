"""Check the device that a model is to run on."""

import torch


def check_device(name: str) -> None:
    """Check that a tensor can be put on a device.

    Args:
        name: MODEL.DEVICE, such as "cpu" or "cuda:1".

    Raises:
        ValueError: the device is unknown, or not available here.
    """
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError, ValueError, NotImplementedError) as error:
        available = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        if torch.backends.mps.is_available():
            available.append("mps")
        raise ValueError(
            f"MODEL.DEVICE is {name!r}, which is not available here; there are {', '.join(available)}"
        ) from error
