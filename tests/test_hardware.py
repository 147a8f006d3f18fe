"""The hardware that a measurement was made on."""

import pytest
import torch

from retina_plugin.hardware import describe_hardware, peak_memory_mib


def test_the_description_contains_threads_and_the_torch_version():
    assert f"{torch.get_num_threads()} threads, torch {torch.__version__}" in describe_hardware()


@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU, its memory counts")
def test_resident_memory_is_that_of_this_process():
    before = peak_memory_mib()
    block = torch.ones(200 * 2**18)  # 200 MiB, written to
    assert peak_memory_mib() >= before and peak_memory_mib() > 200
    assert block.sum() == 200 * 2**18
