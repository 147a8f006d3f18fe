"""Devices that cannot be used are refused."""

import pytest

from retina_plugin.engine.device import check_device


@pytest.mark.parametrize("device", ["gpu", "cuda:1:2", "mps:3", ""])
def test_an_unavailable_device_is_refused_and_the_available_ones_are_listed(device):
    with pytest.raises(ValueError, match="MODEL.DEVICE is .*; there are cpu"):
        check_device(device)


def test_the_cpu_is_always_available():
    check_device("cpu")
