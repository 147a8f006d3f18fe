"""The hardware that a measurement was made on."""

import torch

from retina_plugin.hardware import describe_hardware


def test_the_description_contains_threads_and_the_torch_version():
    assert f"{torch.get_num_threads()} threads, torch {torch.__version__}" in describe_hardware()
