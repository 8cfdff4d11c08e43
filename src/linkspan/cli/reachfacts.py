"""What of a matrix deserves a look, in sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from linkspan.analysis.reach import INTERNET, OUTSIDE, Finding, Reach, Reached
from linkspan.analysis.reach_ends import is_private
from linkspan.cli.reach import Names
from linkspan.cli.reachlabels import ending, label, ports_text
from linkspan.cli.reachtable import ENDS, is_published


def find_facts(found: Reach, names: Names, labels: dict[str, str]) -> Iterator[str]:
    """What of a matrix deserves a look, a sentence each; the most dangerous first."""
    groups = {group.name: group for group in (*found.origins, *found.targets)}

    def everybody(kinds: Iterable[str]) -> str:
        members = (member for kind in dict.fromkeys(kinds) for member in groups[kind].members)
        return label(map(names.of, members))

    own = [one for one in found.findings if not is_published(one) and one.target not in ENDS]
    for origin, who in ((INTERNET, "the internet"), (OUTSIDE, f"a stranger on {found.uplink}")):
        reached = [one for one in own if one.origin == origin and _opens(one)]
        if reached:
            targets = everybody(one.target for one in reached)
            yield f"{who} reaches containers at their own addresses ({reached[0].how}): {targets}"
    untranslated = [
        one
        for one in found.findings
        if one.target == INTERNET and one.verdict is Reached.REACHABLE
        if one.origin not in ENDS and one.how != "translated" and is_private(one.source or "::")
    ]
    for version in (4, 6):
        rows = [one for one in untranslated if _version(one) == version]
        if rows:
            origins = everybody(one.origin for one in rows)
            yield (
                f"out with its own address, such as {rows[0].source}: {origins}; answers come back "
                "only if the gateway knows the way there"
            )
    yield from _with_one_reason(found, labels, _unclear)
    yield from _with_one_reason(found, labels, _half_way)
    stuck = [
        one
        for one in found.findings
        if one.verdict is Reached.BLOCKED and one.target == INTERNET and one.origin not in ENDS
    ]
    out = {
        (one.origin, _version(one))
        for one in found.findings
        if one.target == INTERNET and one.verdict is not Reached.BLOCKED
    }
    for version in (4, 6):
        rows = [
            one for one in stuck
            if _version(one) == version and (one.origin, version) not in out
        ]  # fmt: skip
        if rows:
            more = " for the first" if len({one.origin for one in rows}) > 1 else ""
            yield (
                f"no way out by IPv{version}: {everybody(one.origin for one in rows)}; "
                f"why{more}: {rows[0].why}"
            )
    for one in found.findings:
        if one.lands:
            yield (f"{labels[one.origin]} to {labels[one.target]} {where(one)} ends in {one.lands}")
    for note in dict.fromkeys(note for one in found.findings for note in one.not_understood):
        yield f"not understood: {note}"


def _unclear(one: Finding) -> str:
    """What a finding depends on."""
    if one.verdict is not Reached.DEPENDS:
        return ""
    questions = dict.fromkeys(text.rpartition(": ")[0] or text for text in one.depends_on)
    return f"depends on {'; '.join(questions) or one.why or 'something unknown'}"


def _half_way(one: Finding) -> str:
    """What stops the packets after the first."""
    return one.why if one.why.startswith(("the answer", "the packet after")) else ""


def _with_one_reason(
    found: Reach, labels: dict[str, str], reason_of: Callable[[Finding], str]
) -> Iterator[str]:
    """A fact for each reason, with the first pair that it holds for."""
    held: dict[str, list[Finding]] = {}
    for one in found.findings:
        reason = reason_of(one)
        if reason:
            held.setdefault(reason, []).append(one)
    for reason, rows in held.items():
        first = rows[0]
        more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
        yield f"{labels[first.origin]} to {labels[first.target]} {where(first)}{more}: {reason}"


def _version(one: Finding) -> int:
    return 6 if ":" in one.address else 4


def _opens(one: Finding) -> bool:
    return one.verdict is not Reached.BLOCKED


def where(one: Finding) -> str:
    """What was asked: "at 10.0.0.2:80,443"."""
    ports = ",".join(ports_text(sorted(one.ports)))
    at = f"[{one.address}]" if ":" in one.address else one.address
    return f"at {at}:{ports}{ending(one.protocol)}"
