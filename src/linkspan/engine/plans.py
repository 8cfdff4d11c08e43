"""What a change would do, in words: one line an object, in the order it would happen."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from linkspan.dataplane import HOST, Add, Namespace, Object, Operation, Remove, Replace
from linkspan.dataplane.wording import describe

_VERBS = {Add: "create", Remove: "remove", Replace: "change"}


class Plan(msgspec.Struct, frozen=True):
    """Operations that were worked out and not carried out.

    `names` gives namespaces the names that a person knows them by.
    """

    operations: tuple[Operation, ...]
    names: dict[str, str] = {}

    def lines(self) -> list[str]:
        """One line an operation."""
        return [describe_operation(operation, self.names) for operation in self.operations]

    def __str__(self) -> str:
        return "\n".join(self.lines()) or "nothing to change"


def describe_operation(operation: Operation, names: Mapping[str, str] | None = None) -> str:
    """An operation in words: "create bridge ls-0123456789, mtu 1500, up"."""
    item = operation.new if isinstance(operation, Replace) else operation.object
    text = f"{_VERBS[type(operation)]} {describe_object(item, names)}"
    if isinstance(operation, Replace):
        was = [
            f"{field} was {getattr(operation.old, field)}"
            for field in item.__struct_fields__
            if isinstance(getattr(item, field), (str, int))
            and getattr(item, field) != getattr(operation.old, field)
        ]
        if was:
            text += f" ({', '.join(was)})"
    return text


def describe_object(item: Object, names: Mapping[str, str] | None = None) -> str:
    """An object in words, with the namespace that it is in unless that is the host's."""

    def place(namespace: str) -> str:
        return _place(namespace, names or {})

    text = describe(item, place)
    if item.namespace == HOST or isinstance(item, Namespace):
        return text
    return f"{text}, in {place(item.namespace)}"


def _place(namespace: str, names: Mapping[str, str]) -> str:
    if namespace == HOST:
        return "the host"
    return f"sandbox {names.get(namespace, namespace[:12])}"
