"""What a rule's statements give, and what they need of the walk that runs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias

from linkspan.analysis.choices import Choices
from linkspan.analysis.flow import Flow
from linkspan.analysis.packet import Packet
from linkspan.dataplane.rules import (
    Nat,
    Statement,
)


class Decision(NamedTuple):
    """What a rule decided: a verdict's name, the chain that it names, the statement behind it."""

    name: str
    target: str | None = None
    statement: Statement | None = None


class Run(Protocol):
    """What statements need of the walk that runs them."""

    choices: Choices

    def translate(self, packet: Packet, statement: Nat, to: tuple[Any, ...] | None) -> str:
        """Carry out a translation; "accept", or "drop" where there is no address for it."""

    def rewritten(self, before: Flow, after: Flow, by: str) -> None:
        """Write down that a packet's headers were changed."""

    def misunderstood(self, what: str) -> None:
        """Note what was passed over without being understood."""


Outcome: TypeAlias = "bool | Decision | None"
Action: TypeAlias = Callable[[Packet, Run], Outcome]
