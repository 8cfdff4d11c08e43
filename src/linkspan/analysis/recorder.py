"""What a walk writes down while it goes."""

from __future__ import annotations

from linkspan.analysis.flow import Flow
from linkspan.analysis.trace import Hop, Rewrite, Step


class Recorder:
    """Collects the steps of one packet, a hop a namespace."""

    def __init__(self) -> None:
        self._hops: list[Hop] = []
        self._namespace: str | None = None
        self._steps: list[Step] = []
        self._rewrites: list[Rewrite] = []
        self.not_understood: list[str] = []

    def enter(self, namespace: str) -> None:
        """The packet is in another namespace now."""
        if namespace != self._namespace:
            self._finish()
            self._namespace = namespace

    def step(self, kind: str, object: str, detail: str, line: str, minor: bool = False) -> None:
        """Write down one step."""
        self._steps.append(Step(kind, object, detail, line, minor))

    def rewrite(self, by: str, before: Flow, after: Flow) -> None:
        """Write down a translation."""
        self._rewrites.append(Rewrite(by, before, after))

    def misunderstood(self, what: str) -> None:
        """Write down what was passed over without being understood, once."""
        if what not in self.not_understood:
            self.not_understood.append(what)

    def _finish(self) -> None:
        if self._namespace is not None and (self._steps or self._rewrites):
            self._hops.append(Hop(self._namespace, tuple(self._steps), tuple(self._rewrites)))
        self._steps, self._rewrites = [], []

    def hops(self) -> tuple[Hop, ...]:
        """All hops so far."""
        self._finish()
        return tuple(self._hops)


class Silence(Recorder):
    """Writes nothing down: for what happens beside the way, such as asking for a MAC."""

    def step(self, kind: str, object: str, detail: str, line: str, minor: bool = False) -> None:
        """Nothing."""

    def rewrite(self, by: str, before: Flow, after: Flow) -> None:
        """Nothing."""
