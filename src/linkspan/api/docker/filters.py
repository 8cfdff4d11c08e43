"""The query parameter `filters`: read in both of its forms, and matched as Docker does."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from linkspan.api.docker.patterns import matches_pattern
from linkspan.api.operation import Call
from linkspan.errors import InvalidRequest

_decoder = msgspec.json.Decoder(dict[str, dict[str, bool] | list[str] | None])


class Filters:
    """Values by the name of a filter. A name that is not there lets everything pass."""

    def __init__(self, values: Mapping[str, tuple[str, ...]]) -> None:
        self._values = values

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def get(self, name: str) -> tuple[str, ...]:
        """The values of a filter, () when it is not there."""
        return self._values.get(name, ())

    def one_of(self, name: str, subject: str) -> bool:
        """Whether the subject is one of the values."""
        values = self.get(name)
        return not values or subject in values

    def match(self, name: str, *subjects: str) -> bool:
        """Whether a value, as a pattern, is found in one of the subjects. Raises InvalidRequest."""
        values = self.get(name)
        return not values or any(matches_pattern(v, s) for v in values for s in subjects)

    def begin(self, name: str, *subjects: str) -> bool:
        """Whether one of the subjects begins with one of the values."""
        values = self.get(name)
        return not values or any(s.startswith(values) for s in subjects)

    def have(self, name: str, labels: Mapping[str, str]) -> bool:
        """Whether every value, `key` or `key=value`, is among the labels."""
        for value in self.get(name):
            key, sign, wanted = value.partition("=")
            if key not in labels or (sign and labels[key] != wanted):
                return False
        return True

    def boolean(self, name: str) -> bool | None:
        """The one value as true or false, None when the filter is not there.

        Raises InvalidRequest.
        """
        values = self.get(name)
        if not values:
            return None
        if len(values) > 1:
            raise InvalidRequest(f"filter {name} is given more than once")
        if values[0] not in ("0", "1", "false", "true"):
            raise InvalidRequest(
                f"invalid filter '{name}={values[0]}': expected true (or 1), or false (or 0)"
            )
        return values[0] in ("1", "true")


def read_filters(call: Call, known: Collection[str]) -> Filters:
    """The filters of a request: {"name": {"web": true}}, or {"name": ["web"]} as older clients
    write it.

    Raises:
        InvalidRequest: they are neither, or one is not in `known`.
    """
    text = call.query.get("filters", "")
    try:
        given = _decoder.decode(text) if text else {}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise InvalidRequest(
            f'invalid filter {text[:200]!r}: expected JSON like {{"name": {{"web": true}}}}'
        ) from None
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise InvalidRequest(
            f"invalid filter '{unknown[0]}'; known here are {', '.join(sorted(known))}"
        )
    return Filters({name: _values(given[name]) for name in given if given[name]})


def _values(given: dict[str, bool] | list[str] | None) -> tuple[str, ...]:
    if isinstance(given, dict):
        return tuple(value for value, wanted in given.items() if wanted)
    return tuple(given or ())
