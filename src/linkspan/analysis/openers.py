"""Who opened a port: which program wrote the rules that let a packet through.

Programs are known by the names of the tables and chains that they make, as their sources have
them; anybody else's rules are told by their table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from linkspan.analysis.relay import DOCKER_PROXY
from linkspan.analysis.ruling import CompiledRule
from linkspan.analysis.trace import Hop, Trace
from linkspan.analysis.view import View
from linkspan.dataplane.objects import Element
from linkspan.dataplane.rules import Nat, Table, Verdict, VerdictMap

_MAKERS = tuple(
    (re.compile(pattern), maker)
    for pattern, maker in (
        (r"^\S+ linkspan(6|_\w+)? ", "linkspan"),
        (r"^\S+ docker-bridges |^\S+ \S+ DOCKER\b", "docker"),
        (r"^\S+ netavark |^\S+ \S+ (NETAVARK|nv_)", "netavark"),
        (r"^\S+ cni_hostport |^\S+ \S+ CNI-(DN-|HOSTPORT)", "cni portmap"),
        (r"^\S+ \S+ CNI-", "cni"),
        (r"^\S+ kube-proxy |^\S+ \S+ KUBE-", "kube-proxy"),
        (r"^\S+ firewalld ", "firewalld"),
        (r"^\S+ \S+ ufw6?-", "ufw"),
        (r"^\S+ \S+ LIBVIRT_|^\S+ libvirt_network ", "libvirt"),
    )
)
_REDIRECTING = frozenset(("dnat", "redirect"))
_DECIDING = frozenset(("accept", "queue"))


class UsedRule(msgspec.Struct, frozen=True):
    """A rule that let the packet through or translated it: `does` is accept, dnat, redirect,
    snat or masquerade.

    `element` is what the rule's map has for it, where the rule looks into a named map.
    """

    namespace: str
    does: str
    object: str
    text: str
    element: str = ""
    comment: str = ""


class Opened(msgspec.Struct, frozen=True):
    """Who opened a way: `by` is a program's name, "host process", "no rule" or a table."""

    by: str
    how: str
    """One sentence."""


def find_maker(object: str) -> str | None:
    """The program whose rule this is by its "family table chain ..."; None for others."""
    return next((maker for pattern, maker in _MAKERS if pattern.search(object)), None)


class Openers:
    """The rules and map elements of a view, found by the names that steps have for them."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._rules: dict[str, dict[str, CompiledRule]] = {}
        self._translating: dict[str, set[tuple[str, str, str]]] = {}
        self._elements: dict[str, dict[tuple[str, str, str], dict[str, list[Element]]]] = {}

    def used_rules(self, trace: Trace) -> tuple[UsedRule, ...]:
        """The rules that accepted or translated the first packet, in its order."""
        found: dict[UsedRule, None] = {}
        for hop in trace.hops:
            for step in hop.steps:
                if step.kind == "rule":
                    used = self._as_used(hop, step.object, step.detail)
                    if used is not None:
                        found[used] = None
        return tuple(found)

    def _as_used(self, hop: Hop, object: str, text: str) -> UsedRule | None:
        compiled = self._rules_of(hop.namespace).get(object)
        if compiled is None:
            return None
        comment = compiled.rule.comment or ""
        for statement in compiled.rule.statements:
            if isinstance(statement, Nat):
                if not any(rewrite.by == object for rewrite in hop.rewrites):
                    return None
                element = ""
                if statement.lookup is not None and isinstance(statement.lookup.map, str):
                    element = self._element(hop, compiled, statement.lookup.map)
                return UsedRule(hop.namespace, statement.kind, object, text, element, comment)
            if self._translates(hop.namespace, compiled):
                continue
            if isinstance(statement, Verdict) and statement.name in _DECIDING:
                return UsedRule(hop.namespace, "accept", object, text, "", comment)
            if isinstance(statement, VerdictMap):
                return UsedRule(hop.namespace, "accept", object, text, "", comment)
        return None

    def _translates(self, namespace: str, rule: CompiledRule) -> bool:
        """Whether a rule is in a chain that only translates: to accept there lets nobody in."""
        found = self._translating.get(namespace)
        if found is None:
            found = self._translating[namespace] = set()
            for table in self._view.place(namespace).of(Table):
                found |= {
                    (table.family, table.name, name)
                    for name in _reached(table, True) - _reached(table, False)
                }
        return (rule.family, rule.table, rule.chain) in found

    def _rules_of(self, namespace: str) -> dict[str, CompiledRule]:
        found = self._rules.get(namespace)
        if found is None:
            found = self._rules[namespace] = {
                rule.object: rule for rule in self._view.ruleset(namespace).rules()
            }
        return found

    def _element(self, hop: Hop, rule: CompiledRule, name: str) -> str:
        """The element of a map that gave a translation, as nft prints it."""
        rewrite = next((one for one in hop.rewrites if one.by == rule.object), None)
        if rewrite is None:
            return ""
        elements = self._elements_of(hop.namespace).get((rule.family, rule.table, name), {})
        port = rewrite.before.destination_port
        for element in elements.get(rewrite.after.destination, ()):
            if any(_holds_port(element, place, port) for place in range(len(element.first))):
                return f"{name}: {_element_text(element)}"
        return name

    def _elements_of(self, namespace: str) -> dict[tuple[str, str, str], dict[str, list[Element]]]:
        found = self._elements.get(namespace)
        if found is None:
            found = self._elements[namespace] = {}
            for element in self._view.place(namespace).of(Element):
                held = found.setdefault((element.family, element.table, element.set), {})
                for part in _parts(element.data):
                    held.setdefault(str(part), []).append(element)
        return found


def _reached(table: Table, translating: bool) -> set[str]:
    """The chains of a table that packets come to by its chains of type nat, or by the others."""
    chains = {chain.name: chain for chain in table.chains}
    waiting = [
        chain.name
        for chain in table.chains
        if chain.hook is not None and (chain.type == "nat") is translating
    ]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in found or name not in chains:
            continue
        found.add(name)
        for rule in chains[name].rules:
            for one in rule.statements:
                if isinstance(one, Verdict) and one.target:
                    waiting.append(one.target)
                elif isinstance(one, VerdictMap) and not isinstance(one.map, str):
                    waiting += [verdict.target for _, verdict in one.map if verdict.target]
    return found


def _parts(data: Any) -> tuple[Any, ...]:
    return data if isinstance(data, tuple) else (data,)


def _holds_port(element: Element, place: int, port: int) -> bool:
    first, last = element.first[place], (element.last or element.first)[place]
    return (
        isinstance(first, int) and isinstance(last, int)
        and not isinstance(first, bool) and first <= port <= last
    )  # fmt: skip


def _element_text(element: Element) -> str:
    key = " . ".join(map(str, element.first))
    if element.last is not None and element.last != element.first:
        key = " . ".join(
            str(first) if first == last else f"{first}-{last}"
            for first, last in zip(element.first, element.last, strict=True)
        )
    return f"{key} : {' . '.join(map(str, _parts(element.data)))}"


def find_opener(
    trace: Trace, rules: Iterable[UsedRule], namespace: str, receiver: str, filtered: bool
) -> Opened:
    """Who let a packet in that was delivered. `namespace` is the host's, `receiver` who took
    the frame, `filtered` whether any rule or policy of the host can stop packets.
    """
    here = [rule for rule in rules if rule.namespace == namespace]
    translation = next((rule for rule in here if rule.does in _REDIRECTING), None)
    accepting = next(
        (
            rule
            for rule in reversed(here)
            if rule.does == "accept" and not rule.object.startswith("bridge ")
        ),
        None,
    )
    if translation is not None:
        by = find_maker(translation.object)
        what = f" ({translation.element})" if translation.element else ""
        return Opened(by or f"rule of {_table(translation.object)}",
                      f"translated by {translation.object}{what}")  # fmt: skip
    if trace.namespace == namespace:
        if any(process.name == DOCKER_PROXY for process in trace.processes):
            return Opened(DOCKER_PROXY, "a relay of Docker listens on the host")
        let_in = "" if accepting is None else f", let in by {accepting.object}"
        return Opened("host process", f"a socket of {namespace} itself{let_in}")
    if receiver != namespace:
        return Opened(
            "own link", f"{receiver} is on the segment itself: rules of {namespace} do not see it"
        )
    if accepting is not None:
        maker = find_maker(accepting.object)
        return Opened(
            maker or f"rule of {_table(accepting.object)}", f"routed, let in by {accepting.object}"
        )
    if filtered:
        return Opened("no rule", "routed: no rule stops it, and the policies accept")
    return Opened("no firewall", "routed: this host has no firewall")


def _table(object: str) -> str:
    return " ".join(object.split()[:2])


def has_firewall(view: View, namespace: str) -> bool:
    """Whether a namespace has any chain that packets pass."""
    return any(
        chain.hook is not None and (chain.rules or chain.policy != "accept")
        for table in view.place(namespace).of(Table)
        for chain in table.chains
        if chain.type != "nat"
    )
