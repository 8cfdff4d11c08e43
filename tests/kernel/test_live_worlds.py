"""Live observation and prediction agree: in random worlds, and on a host that linkspan made."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable

import pytest

from lab import Lab, Namespace
from lab.site import HOST, Site
from linkspan.analysis import Flow, Verdict
from linkspan.analysis.comparing import Comparison
from linkspan.cli.live import observe_and_compare
from linkspan.cli.path import Question
from linkspan.inventory.records import HostView
from linkspan.kernel import namespaces
from walks.worlds import LONG, SHORT, Made, in_kernel, make_flows, make_world

FLOWS = int(os.environ.get("LINKSPAN_LIVE_FLOWS", "45"))
"""More of them for a long run: LINKSPAN_LIVE_FLOWS=1000 takes about ten minutes."""
A_WORLD = 15
FIRST = int(os.environ.get("LINKSPAN_LIVE_SEED", "2010"))


def ask(made: Made, name: str, flow: Flow, timeout: float) -> tuple[Verdict, Comparison]:
    view = made.observed()
    question = Question(
        HostView(plane=view.plane, paths=made.paths), view, name, flow, None, flow.source_port
    )
    answer, seen, found = observe_and_compare(question, timeout)
    assert seen.left_over == ()
    return answer.verdict, found


def agrees(verdict: Verdict, found: Comparison) -> bool:
    """Nothing that was seen differs, and what it comes to is what was said."""
    if verdict is Verdict.CANNOT_SAY or found.arrived is None:
        return found.as_predicted
    return found.as_predicted and found.arrived == (verdict is Verdict.DELIVERED)


@pytest.mark.parametrize("seed", range(FIRST, FIRST + FLOWS // A_WORLD))
def test_what_is_seen_in_random_worlds_is_what_was_said(
    seed: int, netns: Callable[[str], Namespace]
):
    home = netns(f"v{seed}")
    wrong, checked = [], 0
    with namespaces.opened(home.path) as descriptor, namespaces.entered(descriptor):
        world = make_world(seed)
        with in_kernel(world, home.path) as made:
            for name, flow in make_flows(seed, world, A_WORLD):
                verdict, found = ask(made, name, flow, SHORT)
                if not agrees(verdict, found):  # again, with time for questions about neighbours
                    verdict, found = ask(made, name, flow, LONG)
                if not agrees(verdict, found):
                    wrong.append((name, flow, verdict, found.arrived, found.first_difference))
                checked += sum(len(row.aspects) for row in found.rows) - found.not_observable
    assert wrong == [], f"world of seed {seed}"
    # A comparison that finds nothing observable would agree with everything.
    assert checked > 2 * A_WORLD


@pytest.fixture(params=[True, False], ids=["bridge-nf-call", "no-bridge-nf-call"])
def site(lab: Lab, request: pytest.FixtureRequest) -> Site:
    made = Site(lab, bridge_netfilter=request.param)
    made.network("web", "10.20.0.0/24")
    made.network("back", "10.21.0.0/24")
    made.serve(made.sandbox("shop", {"network": "web"}, ports=("8080:80",)), 80)
    made.serve(made.sandbox("db", {"network": "web"}), 80)
    made.serve(made.sandbox("other", {"network": "back"}), 80)
    return made


def test_containers_of_linkspan(site: Site):
    """Also: the daemon goes on as if nothing had been, and its rules are what they were."""
    rules = site.lab.run(site.host, "nft -s list ruleset").stdout
    for origin, target, status in (
        ("shop", "db:80", 0), ("shop", "db", 0), ("shop", "db:81", 1), ("shop", "other:80", 1),
        ("host", "shop:80", 0), ("host", f"{HOST}:8080", 0),
        (site.neighbour.name, f"{HOST}:8080", 0), (site.neighbour.name, "shop:80", 1),
    ):  # fmt: skip
        words = (origin, target, "--live", "--timeout", "0.5", "--format", "json")
        done: subprocess.CompletedProcess[str] = site.daemon.cli("path", *words, check=False)
        assert done.stdout, done.stderr
        seen = json.loads(done.stdout)["live"]
        assert seen["as_predicted"], (origin, target, seen["first_difference"])
        assert (origin, target, done.returncode) == (origin, target, status), seen["outcome"]
        assert seen["left_over"] == []
    assert site.lab.run(site.host, "nft -s list ruleset").stdout == rules
    assert site.daemon.get("/v1/sandboxes")
