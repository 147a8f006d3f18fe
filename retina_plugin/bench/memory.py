"""Peak memory of one implementation: ``python -m retina_plugin.bench.memory CASE IMPLEMENTATION DEVICE``."""

import json
import sys

import torch

from retina_plugin.bench.benchmarks import CASES
from retina_plugin.bench.measure import extra_memory


def main(case: str, implementation: str, device_type: str) -> None:
    """Prepare one implementation of a case, run it once, and write its peak memory in bytes to stdout as JSON."""
    device = torch.device(device_type)
    work = CASES[case].implementations[implementation](device)
    if case.endswith("_compiled"):
        work()  # the memory of the compiler does not count
    sys.stdout.write(f"{json.dumps(extra_memory(work, device))}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
