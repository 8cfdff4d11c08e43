"""Strategies for any record of the data plane, made from the types of its fields.

Whatever record or field is added is generated as well, without anybody thinking of it.
"""

from __future__ import annotations

import types
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
from hypothesis import strategies as st

from linkspan.dataplane import Object
from linkspan.dataplane.rules import Table

TEXTS = st.sampled_from(("", "eth0", "10.0.0.1/24", "fe80::1", "\N{SNOWMAN}", 'a "b"\n', "x" * 70))
NUMBERS = st.integers(-(2**63), 2**63 - 1)


@cache
def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a type: text, numbers, optional, rows, unions, and records of these."""
    if kind is str:
        return TEXTS
    if kind is int:
        return NUMBERS
    if kind is bool:
        return st.booleans()
    if kind is type(None):
        return st.none()
    if kind is object:
        return TEXTS
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return st.one_of([values_of(one) for one in arguments])
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(values_of(arguments[0]), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values_of, arguments))
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return st.deferred(lambda: records_of(kind))
    raise AssertionError(f"no strategy for {kind}; teach it here")


@cache
def records_of(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """Records of one class, with any value that fits in every field."""
    hints = get_type_hints(kind)
    return st.builds(kind, **{name: values_of(hints[name]) for name in kind.__struct_fields__})


def concrete_kinds() -> list[type[Object]]:
    """Every class of objects that a plane can hold."""
    found: list[type[Object]] = []
    waiting: list[type[Object]] = [Object]
    while waiting:
        below = waiting.pop().__subclasses__()
        found += [one for one in below if one.__module__.startswith("linkspan.dataplane")]
        waiting += below
    return sorted(found, key=lambda one: one.__name__)


def any_objects() -> st.SearchStrategy[Object]:
    """Objects of all kinds; firewall tables as often as all others together."""
    return st.one_of(records_of(Table), *(records_of(kind) for kind in concrete_kinds()))
