"""The long run of the fuzzer: ``python tests/fuzz/soak.py --inputs 100000``, or ``make soak``.

Each target is run in rounds; a round is a seed of hypothesis, so that what fails is found again by ``--target NAME --seed N``. Prints the
inputs, what failed, the slowest input and the memory, and ends with 1 if anything failed.
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
"""Inputs of one seed."""


def explore(target: str, number: int, count: int, stop: bool) -> tuple[int, float, dict[str, list], int]:
    """Run one round: inputs, seconds of the slowest, failures (by place, with one input each), and the memory of the process, MiB."""
    from fuzz.targets import TARGETS, inputs
    from hypothesis import HealthCheck, Phase, given, seed, settings

    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    run, slowest, done = TARGETS[target][0], 0.0, 0
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
    def one(arguments):
        nonlocal slowest, done
        begin = time.perf_counter()
        try:
            run(*arguments)
        except Exception as error:
            if stop:
                raise
            frames = [
                frame
                for frame in traceback.extract_tb(error.__traceback__)
                if "retina_plugin" in frame.filename or "/fuzz/" in frame.filename
            ]
            place = f"{type(error).__name__} at {os.path.basename(frames[-1].filename)}:{frames[-1].lineno}"
            failures.setdefault(place, [0, str(error)[:200], arguments])[0] += 1
        slowest, done = max(slowest, time.perf_counter() - begin), done + 1

    one()
    return done, slowest, failures, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=100_000, help="of all targets together (default 100000)")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--target", help="of one target only")
    parser.add_argument("--seed", type=int, help="one round only, stopping at the first failure with its trace")
    args = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parents[1]))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from fuzz.targets import TARGETS

    if args.seed is not None:
        print(explore(args.target, args.seed, ROUND, True))
        return 0
    chosen = {args.target: (TARGETS[args.target][0], 1.0)} if args.target else TARGETS
    rounds = [
        (name, number) for name, (_, share) in chosen.items() for number in range(-(-int(args.inputs * share) // ROUND))
    ]
    begin, total, most_memory = time.perf_counter(), collections.Counter(), 0
    slowest, failures = (0.0, ""), {}
    with ProcessPoolExecutor(args.processes) as pool:
        waiting = [(name, number, pool.submit(explore, name, number, ROUND, False)) for name, number in rounds]
        for i, (name, number, future) in enumerate(waiting, start=1):
            done, seconds, found, memory = future.result()
            total[name] += done
            slowest, most_memory = max(slowest, (seconds, f"{name} seed {number}")), max(most_memory, memory)
            for place, (count, message, arguments) in found.items():
                if place not in failures:
                    print(f"{name} seed {number}: {place}: {message}\n    {arguments}", flush=True)
                failures[place] = failures.get(place, 0) + count
            if i % 20 == 0 or i == len(rounds):
                print(
                    f"{sum(total.values()):,} inputs, {sum(failures.values())} failures, slowest {slowest[0]:.2f} s ({slowest[1]}), {most_memory} MiB, {time.perf_counter() - begin:.0f} s",
                    flush=True,
                )
    print(", ".join(f"{name} {count:,}" for name, count in total.items()))
    for place, count in sorted(failures.items(), key=lambda item: -item[1]):
        print(f"{count:6d} {place}")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
