"""From operations on tables and elements to the messages of one transaction.

Neighbouring operations of one kind on one set share a message. Which elements a set can
hold is in its codec; `find_codec` gives it for the sets of tables that are not part of the
transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from linkspan.dataplane.diff import Add, Operation, Remove, Replace
from linkspan.dataplane.objects import Element
from linkspan.dataplane.rules import Table
from linkspan.errors import InvalidRequest, NotFound
from linkspan.kernel.netfilter import batch
from linkspan.kernel.netfilter.batch import Message
from linkspan.kernel.netfilter.elements import SetCodec
from linkspan.kernel.netfilter.tables import change_elements, create_table, delete_table

SetKey = tuple[str, str, str]
"""Family, table, set."""
Codecs = dict[SetKey, SetCodec]


class Step(NamedTuple):
    """A message, and the elements that it removes (none for one that must succeed)."""

    message: Message
    removed: tuple[Element, ...] = ()


class Plan(NamedTuple):
    """What a transaction sends, and what holds when it is done."""

    steps: tuple[Step, ...]
    codecs: Codecs
    """The sets of the tables that it makes."""
    made: tuple[Table, ...]
    removed: tuple[tuple[str, str], ...]
    """Family and name of tables that are gone afterwards."""


def plan_transaction(
    operations: Sequence[Operation],
    find_codec: Callable[[SetKey], SetCodec],
    table_flags: int,
    remove_type: int = batch.DESTROY_ELEMENT,
    skip: frozenset[Element] = frozenset(),
) -> Plan:
    """The messages for operations on Table and Element, in their order.

    New tables get `table_flags`. `remove_type` is DESTROY_ELEMENT, or DELETE_ELEMENT for
    kernels before 6.3: then each removal is a message of its own, so that the kernel tells
    of every element that is missing. Elements in `skip` are not removed.
    Raises InvalidRequest for any other object, and as SetCodec and compile_rule do.
    """
    writer = _Writer(find_codec, table_flags, remove_type, skip)
    for operation in operations:
        match operation:
            case Remove(Table() as table):
                writer.remove_table(table)
            case Add(Table() as table) | Replace(_, Table() as table):
                writer.make_table(table)
            case Remove(Element() as element):
                writer.change(remove_type, element)
            case Add(Element() as element):
                writer.change(batch.NEW_ELEMENT, element)
            case Replace(Element() as old, Element() as new):
                # Removals first: many replacements then share two messages a set.
                writer.replace(old, new)
            case _:
                raise InvalidRequest(f"a firewall transaction cannot carry {operation}")
    writer.flush()
    made = {(table.family, table.name): table for table in writer.made}
    return Plan(tuple(writer.steps), writer.codecs, tuple(made.values()), tuple(writer.removed))


class _Writer:
    """Gathers runs of element changes and turns them into steps."""

    def __init__(
        self,
        find_codec: Callable[[SetKey], SetCodec],
        table_flags: int,
        remove_type: int,
        skip: frozenset[Element],
    ) -> None:
        self.steps: list[Step] = []
        self.codecs: Codecs = {}
        self.made: list[Table] = []
        self.removed: list[tuple[str, str]] = []
        self._find_codec = find_codec
        self._table_flags = table_flags
        self._remove_type = remove_type
        self._skip = skip
        self._next_set_id = 1
        self._run: tuple[int, SetKey] | None = None
        self._elements: list[Element] = []
        self._added: list[Element] = []

    def remove_table(self, table: Table) -> None:
        self.flush()
        self.steps += [Step(message) for message in delete_table(table)]
        self.removed.append((table.family, table.name))
        self.made = [t for t in self.made if (t.family, t.name) != (table.family, table.name)]

    def make_table(self, table: Table) -> None:
        self.remove_table(table)
        self.removed.pop()
        messages = create_table(table, self._table_flags, self._next_set_id)
        self._next_set_id += len(messages)
        self.steps += [Step(message) for message in messages]
        for definition in table.sets:
            self.codecs[table.family, table.name, definition.name] = SetCodec(definition)
        self.made.append(table)

    def change(self, type: int, element: Element) -> None:
        run = (type, (element.family, element.table, element.set))
        if run != self._run or self._added:
            self.flush()
            self._run = run
        self._elements.append(element)

    def replace(self, old: Element, new: Element) -> None:
        run = (-1, (new.family, new.table, new.set))
        if run != self._run:
            self.flush()
            self._run = run
        self._elements.append(old)
        self._added.append(new)

    def flush(self) -> None:
        if self._run is None:
            return
        type, key = self._run
        elements, added = self._elements, self._added
        self._run, self._elements, self._added = None, [], []
        try:
            codec = self.codecs.get(key) or self._find_codec(key)
        except NotFound:
            if type == self._remove_type:
                return  # the set is gone, and its elements with it
            raise
        if type == batch.NEW_ELEMENT:
            self._add(codec, elements)
        else:
            self._remove(codec, elements)
            self._add(codec, added)

    def _add(self, codec: SetCodec, elements: list[Element]) -> None:
        self.steps += [
            Step(message) for message in change_elements(batch.NEW_ELEMENT, codec, elements)
        ]

    def _remove(self, codec: SetCodec, elements: list[Element]) -> None:
        wanted = [element for element in elements if element not in self._skip]
        if self._remove_type == batch.DELETE_ELEMENT:
            groups = [[element] for element in wanted]
        else:
            groups = [wanted]
        for group in groups:
            removed = tuple(group)
            self.steps += [
                Step(message, removed)
                for message in change_elements(self._remove_type, codec, group)
            ]
