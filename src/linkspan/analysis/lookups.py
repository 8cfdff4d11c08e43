"""Looking a packet's fields up in sets and maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from linkspan.analysis.fields import compile_field, parts_of
from linkspan.analysis.packet import Packet
from linkspan.analysis.place import Place
from linkspan.analysis.sets import Collection, from_rows
from linkspan.analysis.values import MISSING, UNKNOWN
from linkspan.dataplane.rules import (
    Expression,
)


class Sets:
    """The sets of one table, each put in order when a rule first looks into it."""

    def __init__(self, definitions: Mapping[str, tuple[str, ...]],
                 load: Callable[[str], Collection]) -> None:  # fmt: skip
        self.definitions = definitions
        self._load = load
        self._held: dict[str, Collection | None] = {}

    def get(self, name: str) -> Collection | None:
        """The set of a name; None when it is not known, or holds what cannot be compared."""
        if name not in self._held:
            try:
                self._held[name] = self._load(name) if name in self.definitions else None
            except ValueError:
                self._held[name] = None
        return self._held[name]


def compile_lookup(
    key: Expression, name: str | None, rows: Any, place: Place, sets: Sets
) -> Callable[[Packet], Any]:
    """The function from a packet to what a set or map has for it (sets.Found)."""
    fields = [compile_field(part, place) for part in parts_of(key)]
    if name is None:
        collection: Collection | None = from_rows([field.kind for field in fields], rows)
    else:
        collection = None
    loads = [field.load for field in fields]

    def look_up(packet: Packet) -> Any:
        held = collection if name is None else sets.get(name)
        if held is None:
            return UNKNOWN
        values = []
        for load in loads:
            value = load(packet)
            if value is MISSING:
                return MISSING
            values.append(value)
        return held.look_up(values)

    return look_up
