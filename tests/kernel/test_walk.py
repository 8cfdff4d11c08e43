"""The walk against the kernel: random worlds, a real attempt for every flow, no difference."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from lab import Namespace
from linkspan.kernel import namespaces
from walks.shrinking import shrink
from walks.worlds import compare, in_kernel, make_flows, make_world

FIRST = int(os.environ.get("LINKSPAN_WALK_SEED", "100"))
"""The same worlds every time, so that a failure is news; another seed shows other worlds."""
FLOWS = int(os.environ.get("LINKSPAN_WALK_FLOWS", "1200"))
"""More of them for a long run: LINKSPAN_WALK_FLOWS=20000 takes about five minutes."""
A_WORLD = 60
KNOWN = (54, 20180, 1219, 1228, 1321, 1340, 2078, 2080, 2693, 10057, 10074)
"""Worlds that once showed a difference, each another piece of the kernel."""


@pytest.fixture
def run_world(netns: Callable[[str], Namespace]) -> Callable[[int], int]:
    """Makes the world of a seed, asks, and fails with all that is needed to look into it."""

    def run(seed: int) -> int:
        home = netns(f"w{seed}")
        with namespaces.opened(home.path) as descriptor, namespaces.entered(descriptor):
            world = make_world(seed)
            with in_kernel(world, home.path) as made:
                said, differences = compare(made, make_flows(seed, world, A_WORLD))
            if differences:
                rest = shrink(world, differences[0].probe, home.path)
                shown = "\n".join(map(str, differences))
                pytest.fail(f"world of seed {seed}:\n{shown}\n\nshrunk to:\n{rest}")
        return said

    return run


@pytest.mark.parametrize("seed", KNOWN)
def test_worlds_that_once_differed(seed: int, run_world: Callable[[int], int]):
    run_world(seed)


def test_the_walk_says_what_the_kernel_does(run_world: Callable[[int], int]):
    print(f"first seed: {FIRST} (LINKSPAN_WALK_SEED sets it)")
    said = 0
    worlds = FLOWS // A_WORLD
    for seed in range(FIRST, FIRST + worlds):
        said += run_world(seed)
    # An answer that is always "it depends" would agree with everything.
    assert said > 0.9 * worlds * A_WORLD
