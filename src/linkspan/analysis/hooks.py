"""Running the hooks of netfilter on a packet."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from linkspan.analysis.journey import Ending, Journey
from linkspan.analysis.outcomes import Decision
from linkspan.analysis.packet import Packet
from linkspan.analysis.ruleset import HookEntry, LoadedChain
from linkspan.analysis.ruling import CompiledRule
from linkspan.analysis.trace import Disposition
from linkspan.analysis.translation import apply_translation, needs_translation, settle
from linkspan.dataplane.rules import Reject

_DEEPEST = 16
"""Chains inside each other: NFT_JUMP_STACK_SIZE."""
_FINAL = frozenset(("accept", "drop", "reject", "queue"))


class Ruled(NamedTuple):
    """What a chain decided, and the rule that did; no rule: the chain's policy."""

    decision: Decision
    rule: CompiledRule | None


def pass_hook(
    journey: Journey, packet: Packet, stack: str, hook: str, first_priority: int | None = None,
    last_priority: int | None = None,
    after: Callable[[Journey, Packet, HookEntry], Ending | None] | None = None,
) -> Ending | None:  # fmt: skip
    """Run a hook of "ip", "ip6", "bridge", "arp" or "netdev"; the end, or None to go on.

    With the priorities only what lies between them runs, both included. `after` is told of
    everything that let the packet pass, and may end its way.
    """
    journey.hook = hook
    for entry in journey.ruleset(packet.namespace).hook(stack, hook):
        if first_priority is not None and entry.priority < first_priority:
            continue
        if last_priority is not None and entry.priority > last_priority:
            continue
        if entry.kind == "track":
            journey.tracker.see(packet)
            continue
        if entry.kind == "translate":
            ending = _pass_translation(journey, packet, stack, hook)
        else:
            assert entry.chain is not None
            ending = _pass_chain(journey, packet, entry.chain)
        if ending is None and after is not None:
            ending = after(journey, packet, entry)
        if ending is not None:
            return ending
    return None


def pass_device_hook(journey: Journey, packet: Packet, link: str, hook: str) -> Ending | None:
    """Run the ingress or egress chains of one link."""
    for entry in journey.ruleset(packet.namespace).hook("netdev", hook):
        assert entry.chain is not None
        device = entry.chain.chain.device
        if device is not None and link not in device.replace(",", " ").split():
            continue
        ending = _pass_chain(journey, packet, entry.chain)
        if ending is not None:
            return ending
    return None


def _pass_chain(journey: Journey, packet: Packet, chain: LoadedChain) -> Ending | None:
    ruled = run_base_chain(journey, packet, chain)
    name = ruled.decision.name
    if name == "accept":
        return None
    if name == "queue":
        taken = journey.choices.choose(
            f"what the program behind {_where(chain, ruled)} decides",
            ("accept", "drop"), ("accept", "drop"),
        )  # fmt: skip
        if taken == "accept":
            return None
    if name == "reject":
        assert ruled.rule is not None
        how = ruled.decision.statement
        kind = how.kind if isinstance(how, Reject) else "an error"
        return journey.end(
            Disposition.REJECTED, packet, f"rejected with {kind} by {_quote(ruled.rule)}"
        )
    why = (
        f"dropped by the policy of {chain.object} ({chain.chain.hook})"
        if ruled.rule is None
        else f"dropped by {_quote(ruled.rule)}"
    )
    return journey.end(Disposition.DROPPED, packet, why)


def _where(chain: LoadedChain, ruled: Ruled) -> str:
    return chain.object if ruled.rule is None else ruled.rule.object


def _quote(rule: CompiledRule) -> str:
    return f"{rule.object}: {rule.text}"


def run_base_chain(journey: Journey, packet: Packet, chain: LoadedChain) -> Ruled:
    """What a base chain decides: accept, drop, reject or queue."""
    ruled = _run_chain(journey, packet, chain, 0)
    if ruled is not None:
        return ruled
    if chain.chain.rules or chain.chain.policy != "accept":
        journey.recorder.step(
            "policy", chain.object, chain.chain.policy,
            f"{chain.object}: policy {chain.chain.policy}", minor=True,
        )  # fmt: skip
    return Ruled(Decision(chain.chain.policy), None)


def _run_chain(journey: Journey, packet: Packet, chain: LoadedChain, depth: int) -> Ruled | None:
    """What a chain decides; None when it says nothing and its caller goes on."""
    for rule in chain.rules_for(packet):
        decision = rule.run(packet, journey)
        if decision is None:
            continue
        name = decision.name
        line = f"{rule.object}: {rule.text}"
        journey.recorder.step("rule", rule.object, rule.text, line, minor=True)
        if name in _FINAL:
            return Ruled(decision, rule)
        if name == "return":
            return None
        if name in ("jump", "goto"):
            target = chain.siblings.get(decision.target or "")
            if target is None or depth >= _DEEPEST:
                journey.misunderstood(f"{rule.object} goes to a chain that is not known")
                continue
            ruled = _run_chain(journey, packet, target, depth + 1)
            if ruled is not None or name == "goto":
                return ruled
    return None


def _pass_translation(journey: Journey, packet: Packet, stack: str, hook: str) -> Ending | None:
    """Translate as the first packet's chains decide, later ones as was decided (nf_nat)."""
    if packet.connection is None:
        return None
    by: str | None = None
    if needs_translation(packet, hook):
        for entry in journey.ruleset(packet.namespace).translations(stack, hook):
            assert entry.chain is not None
            ruled = run_base_chain(journey, packet, entry.chain)
            if ruled.decision.name != "accept":
                why = _where(entry.chain, ruled)
                return journey.end(Disposition.DROPPED, packet, f"dropped by {why}")
            if not needs_translation(packet, hook):
                by = None if ruled.rule is None else ruled.rule.object
                break
        settle(journey, packet, hook)
    apply_translation(journey, packet, hook, by)
    return None
