"""Compares the walk with the kernel in many random worlds, and prints what differs."""

from __future__ import annotations

import argparse
import sys
import time

from walks.runs import A_WORLD, JOBS, run_worlds


def main() -> int:
    """The exit status is 1 when something differed."""
    parser = argparse.ArgumentParser(prog="python -m walks", description=__doc__)
    parser.add_argument("first", type=int, help="seed of the first world")
    parser.add_argument("worlds", type=int, nargs="?", default=100, help="how many worlds")
    parser.add_argument("--flows", type=int, default=A_WORLD, help="flows of each world")
    parser.add_argument("--jobs", type=int, default=JOBS, help="worlds at once")
    parser.add_argument(
        "--no-shrinking", action="store_true", help="leave worlds as large as they are"
    )
    options = parser.parse_args()
    start = time.monotonic()
    flows = said = differing = 0
    seeds = range(options.first, options.first + options.worlds)
    for result in run_worlds(seeds, options.flows, options.jobs, not options.no_shrinking):
        flows, said = flows + result.flows, said + result.said
        if result.differences:
            differing += len(result.differences)
            print(f"{result}\n", flush=True)
    took = time.monotonic() - start
    print(f"{flows} flows, {said} answers certain, {differing} differences, {took:.0f} s")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
