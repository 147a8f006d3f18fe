"""Memory of one implementation of a case, in a fresh process."""

import pytest
import torch

from retina_plugin.bench.measure import extra_memory_in_fresh_process


@pytest.mark.slow
def test_plugins_mapper_needs_a_few_megabytes():
    got = extra_memory_in_fresh_process("mapper", "plugin", torch.device("cpu"))
    if got is None:
        pytest.skip("this system has no /proc/self/clear_refs")
    assert 0 <= got < 200 * 2**20
