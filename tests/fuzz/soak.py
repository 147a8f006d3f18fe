"""Run the fuzzer for long: ``python tests/fuzz/soak.py --inputs 100000``, or ``make soak``.

Each target runs in rounds; a round is a seed of hypothesis, so a failure is reproduced by ``--target NAME --seed N``.
Prints the number of inputs, the failures, the slowest input and the memory, and exits with 1 if anything failed.
"""

import argparse
import collections
import logging
import os
import resource
import sys
import time
import traceback
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

ROUND = 500
"""Inputs per seed."""


def explore(target: str, number: int, count: int, stop: bool) -> tuple[int, float, dict[str, list], int]:
    """Run one round.

    Args:
        target: key of ``TARGETS``.
        number: seed.
        count: number of inputs.
        stop: raise the first failure instead of collecting failures.

    Returns:
        The number of inputs, the seconds of the slowest, the failures by place (count, message, one input each), and
        the peak memory of the process in MiB.
    """
    from fuzz.targets import TARGETS, inputs
    from hypothesis import HealthCheck, Phase, given, seed, settings

    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    run, slowest, done = TARGETS[target].run, 0.0, 0
    failures: dict[str, list] = {}

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @seed(number)
    @given(inputs(run))
    def one(arguments: tuple) -> None:
        """Run one input."""
        nonlocal slowest, done
        start = time.perf_counter()
        try:
            run(*arguments)
        except Exception as error:
            if stop:
                raise
            failures.setdefault(_place_of(error), [0, str(error)[:200], arguments])[0] += 1
        slowest, done = max(slowest, time.perf_counter() - start), done + 1

    one()
    return done, slowest, failures, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _place_of(error: Exception) -> str:
    """Return the kind of an error and the last line of the plugin or the fuzzer in its traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "retina_plugin" in frame.filename or "/fuzz/" in frame.filename]
    return f"{type(error).__name__} at {os.path.basename(ours[-1].filename)}:{ours[-1].lineno}"


def parsed_arguments() -> argparse.Namespace:
    """Parse the command line."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=100_000, help="number of inputs of all targets (default: 100000)")
    parser.add_argument("--processes", type=int, default=2, help="number of processes (default: 2)")
    parser.add_argument("--target", help="run only this target")
    parser.add_argument("--seed", type=int, help="run only this round of --target and stop at the first failure")
    return parser.parse_args()


def main() -> int:
    """Run all rounds and print what they found; return the exit code."""
    args = parsed_arguments()
    sys.path.insert(0, str(Path(__file__).parents[1]))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from fuzz.targets import TARGETS

    if args.seed is not None:
        print(explore(args.target, args.seed, ROUND, True))
        return 0
    shares = {args.target: 1.0} if args.target else {name: target.share for name, target in TARGETS.items()}
    rounds = [
        (name, number) for name, share in shares.items() for number in range(-(-int(args.inputs * share) // ROUND))
    ]
    start, most_memory, slowest = time.perf_counter(), 0, (0.0, "")
    total: collections.Counter[str] = collections.Counter()
    failures: collections.Counter[str] = collections.Counter()
    with ProcessPoolExecutor(args.processes) as pool:
        waiting = [(name, number, pool.submit(explore, name, number, ROUND, False)) for name, number in rounds]
        for i, (name, number, future) in enumerate(waiting, start=1):
            done, seconds, found, memory = future.result()
            total[name] += done
            slowest, most_memory = max(slowest, (seconds, f"{name} seed {number}")), max(most_memory, memory)
            for place, (count, message, arguments) in found.items():
                if place not in failures:
                    print(f"{name} seed {number}: {place}: {message}\n    {arguments}", flush=True)
                failures[place] += count
            if i % 20 == 0 or i == len(rounds):
                print(
                    f"{total.total():,} inputs, {failures.total()} failures, slowest {slowest[0]:.2f} s "
                    f"({slowest[1]}), {most_memory} MiB, {time.perf_counter() - start:.0f} s",
                    flush=True,
                )
    print(", ".join(f"{name} {count:,}" for name, count in total.items()))
    for place, count in failures.most_common():
        print(f"{count:6d} {place}")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
