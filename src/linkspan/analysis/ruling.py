"""Rules of a chain, compiled when they are first needed."""

from __future__ import annotations

from linkspan.analysis.lookups import Sets
from linkspan.analysis.outcomes import Decision, Run
from linkspan.analysis.packet import Packet
from linkspan.analysis.place import Place
from linkspan.analysis.statements import Compiled, compile_statement
from linkspan.dataplane.rules import FirewallRule
from linkspan.dataplane.ruletext import rule_text

_PASSED = Decision("continue")


class CompiledRule:
    """A rule of a chain, compiled when it is first needed."""

    __slots__ = (
        "_object", "_place", "_sets", "_statements", "_text", "chain", "family", "number", "rule",
        "table",
    )  # fmt: skip

    def __init__(
        self, rule: FirewallRule, number: int, owner: tuple[str, str, str], place: Place,
        sets: Sets,
    ) -> None:  # fmt: skip
        self.rule = rule
        self.number = number
        self.family, self.table, self.chain = owner
        self._object = self._text = ""
        self._place = place
        self._sets = sets
        self._statements: list[Compiled | None] = [None] * len(rule.statements)

    @property
    def object(self) -> str:
        """Where a person finds the rule."""
        if not self._object:
            handle = self.rule.handle
            which = f"rule {self.number}" if handle is None else f"handle {handle}"
            self._object = f"{self.family} {self.table} {self.chain} {which}"
        return self._object

    @property
    def text(self) -> str:
        """The rule as it was written, or as nft would print it."""
        if not self._text:
            self._text = self.rule.text or rule_text(self.rule, self.family)
        return self._text

    def run(self, packet: Packet, run: Run) -> Decision | None:
        """What the rule decides on a packet, None for nothing."""
        for place in range(len(self._statements)):
            statement = self._statements[place] or self._compile(place)
            outcome = statement.run(packet, run)
            if outcome is True:
                continue
            if outcome is False:
                return None
            if outcome is None:
                matters = self._can_matter(place + 1, packet, run)
                if not matters:
                    if matters is None and statement.opaque:
                        run.misunderstood(f"{self.object}: {self.text}")
                    return None
                question = f"whether {statement.text!r} holds in {self.object}"
                if not run.choices.choose(question, (False, True), ("it does not", "it does")):
                    return None
                continue
            return outcome
        idle = all(statement is not None and statement.idle for statement in self._statements)
        return None if idle else _PASSED

    def _compile(self, place: int) -> Compiled:
        """Most rules end at their first statement: the others are compiled when it holds."""
        made = compile_statement(self.rule.statements[place], self._place, self._sets, self.family)
        self._statements[place] = made
        return made

    def _can_matter(self, first: int, packet: Packet, run: Run) -> bool | None:
        """Whether the rule would do anything if an unknown test held: False where a later test
        fails, None where nothing that is known follows.
        """
        for place in range(first, len(self._statements)):
            statement = self._statements[place] or self._compile(place)
            if statement.test:
                if statement.run(packet, run) is False:
                    return False
            elif not statement.idle:
                return True
        return None
