"""What a figure was measured on."""

import torch

from retina_plugin.hardware import machine


def test_it_names_threads_and_torch():
    assert f"{torch.get_num_threads()} threads, torch {torch.__version__}" in machine()
