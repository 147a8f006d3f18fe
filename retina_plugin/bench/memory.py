"""``python -m retina_plugin.bench.memory CASE SIDE DEVICE``: prints the bytes that one side of a case takes."""

import json
import sys

import torch

from retina_plugin.bench.benchmarks import CASES
from retina_plugin.bench.measure import extra_memory


def main(case: str, side: str, device: str) -> None:
    """Build the one side, run it once and print the figure as JSON."""
    device = torch.device(device)
    work = CASES[case].sides[side](device)
    if case.endswith("_compiled"):
        work()  # what the compiler takes is not meant
    print(json.dumps(extra_memory(work, device)))


if __name__ == "__main__":
    main(*sys.argv[1:])
