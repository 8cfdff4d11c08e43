"""A data plane: objects held by identity."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

from linkspan.dataplane.falling import Falling
from linkspan.dataplane.objects import Key, Object

T = TypeVar("T", bound=Object)


class DataPlane:
    """A set of objects with distinct keys. Immutable by convention: methods give new planes."""

    __slots__ = ("_objects",)

    def __init__(self, objects: Iterable[Object] = ()) -> None:
        held: Final[dict[Key, Object]] = {}
        for item in objects:
            key = item.key
            if key in held and held[key] != item:
                raise ValueError(f"two different objects with one identity: {held[key]} and {item}")
            held[key] = item
        self._objects = held

    def __iter__(self) -> Iterator[Object]:
        return iter(self._objects.values())

    def __len__(self) -> int:
        return len(self._objects)

    def __contains__(self, key: Key) -> bool:
        return key in self._objects

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DataPlane) and self._objects == other._objects

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"DataPlane({list(self._objects.values())!r})"

    def get(self, key: Key) -> Object | None:
        """The object with this identity, or None."""
        return self._objects.get(key)

    def keys(self) -> Iterable[Key]:
        """The identities held, in the order they were added."""
        return self._objects.keys()

    def of(self, kind: type[T]) -> Iterator[T]:
        """All objects of one class."""
        return (item for item in self._objects.values() if isinstance(item, kind))

    def union(self, *others: DataPlane) -> DataPlane:
        """All objects of all planes; one identity in two different states is an error."""
        return DataPlane(item for plane in (self, *others) for item in plane)

    __or__ = union

    def with_object(self, item: Object) -> DataPlane:
        """This plane with one object added or replaced."""
        result = DataPlane()
        result._objects = {**self._objects, item.key: item}
        return result

    def without(self, key: Key) -> DataPlane:
        """This plane without one object and without what the kernel removes along with it."""
        gone = self._objects.get(key)
        if gone is None:
            return self
        fallen = Falling(self, self.get).with_all((gone,))
        result = DataPlane()
        result._objects = {
            k: item for k, item in self._objects.items() if k != key and k not in fallen
        }
        return result
