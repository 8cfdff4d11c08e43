"""Statements as functions: each of the rule language, ready to be run on packets.

A compiled statement takes the packet and the run, and gives True (go on with the next
statement), False (this rule is done), None (it cannot be said which), or a decision.
"""

from __future__ import annotations

from typing import NamedTuple

from linkspan.analysis.effects import (
    compile_copy,
    compile_set_field,
    compile_translation,
    compile_verdict_map,
    go_on,
    leave_untracked,
    pass_over,
)
from linkspan.analysis.lookups import Sets
from linkspan.analysis.matching import compile_flags, compile_match
from linkspan.analysis.outcomes import Action, Decision, Outcome, Run
from linkspan.analysis.packet import Packet
from linkspan.analysis.place import Place
from linkspan.dataplane.rules import (
    Copy,
    Counter,
    Flags,
    Limit,
    Log,
    Match,
    Nat,
    Notrack,
    Opaque,
    Reject,
    SetField,
    Statement,
    Verdict,
    VerdictMap,
)
from linkspan.dataplane.ruletext import statement_text


class Compiled(NamedTuple):
    """A statement ready to run. `test`: it only looks. `idle`: it changes nothing. `opaque`:
    nobody understood it, so that it may do more than is known.
    """

    run: Action
    test: bool = False
    idle: bool = False
    opaque: bool = False
    statement: Statement | None = None
    family: str = ""

    @property
    def text(self) -> str:
        """The statement as nft would print it."""
        return "" if self.statement is None else statement_text(self.statement, self.family)


def compile_statement(statement: Statement, place: Place, sets: Sets, family: str) -> Compiled:
    """A statement of a table of `family` as a function; what cannot be compiled is a test
    whose outcome is not known.
    """
    made = _compile(statement, place, sets)
    return Compiled(made.run, made.test, made.idle, made.opaque, statement, family)


def _compile(statement: Statement, place: Place, sets: Sets) -> Compiled:
    try:
        match statement:
            case Match(left, right, op):
                return Compiled(compile_match(left, right, op, place, sets), test=True)
            case Flags(left, names, invert):
                return Compiled(compile_flags(left, names, invert, place), test=True)
            case Verdict(name, target):
                return _constant(Decision(name, target, statement))
            case Reject():
                return _constant(Decision("reject", None, statement))
            case VerdictMap(key, content):
                return Compiled(compile_verdict_map(key, content, place, sets, statement))
            case Nat():
                return Compiled(compile_translation(statement, place, sets))
            case SetField():
                return Compiled(compile_set_field(statement))
            case Copy():
                return Compiled(compile_copy(statement, place))
            case Notrack():
                return Compiled(leave_untracked)
            case Limit():
                return Compiled(_cannot_say, test=True)
            case Counter() | Log():
                return Compiled(go_on, idle=True)
            case Opaque(words, test):
                run = _cannot_say if test else pass_over(words)
                return Compiled(run, test=test, opaque=True)
    except (ValueError, KeyError, TypeError, NotImplementedError):
        return Compiled(_cannot_say, test=True)


def _cannot_say(packet: Packet, run: Run) -> Outcome:
    return None


def _constant(decision: Decision) -> Compiled:
    return Compiled(lambda packet, run: decision)
