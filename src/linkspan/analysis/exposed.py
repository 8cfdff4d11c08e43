"""What strangers reach: every address, port and protocol at which something on a host answers.

A stranger is on the segment of one of the host's links to the outside, sends from any address,
and to any MAC there, whatever the packet's destination is. All such packets are walked, class by
class (regions); those that arrive at a socket are exposed.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from linkspan.analysis.exposures import (
    Exposure,
    Passage,
    Unclear,
    gather,
)
from linkspan.analysis.flow import PROTOCOLS
from linkspan.analysis.likenesses import LEAST_NAMESPACES, Likenesses
from linkspan.analysis.segments import find_segments
from linkspan.analysis.survey import MOST_WALKS, NotAlikeError, Survey
from linkspan.analysis.view import View
from linkspan.dataplane.objects import HOST
from linkspan.dataplane.sockets import Listener
from linkspan.errors import NotFound


class Exposed(msgspec.Struct, frozen=True, kw_only=True):
    """What strangers on some segments reach.

    `segments` are the host's links that were asked for; `forwarded` what the host passes on to
    where nobody was observed; `unclear` what cannot be said. `complete` is false where there
    was too much to look at; `rest` then says what was left out.
    """

    segments: tuple[str, ...]
    exposures: tuple[Exposure, ...]
    forwarded: tuple[Passage, ...] = ()
    unclear: tuple[Unclear, ...] = ()
    rest: tuple[str, ...] = ()
    walks: int = 0

    @property
    def complete(self) -> bool:
        """Whether everything was looked at."""
        return not self.rest


def find_exposed(
    view: View, link: str | None = None, protocols: Sequence[str] = ("tcp", "udp", "sctp"),
    most: int = MOST_WALKS,
) -> Exposed:  # fmt: skip
    """Everything that strangers on the segment of `link` reach (None: of all links outside).

    At most `most` packets are walked. Raises NotFound for a link that the host does not have,
    or when it has none to the outside.
    """
    if HOST not in view.namespaces:
        raise NotFound("the data plane has no host namespace")
    if link is not None and view.link(HOST, link) is None:
        raise NotFound(f"the host has no link {link!r}")
    segments = find_segments(view) if link is None else [link]
    if not segments:
        raise NotFound("this host has no link to the outside; name one with --link")
    many = sum(1 for _ in view.namespaces) >= LEAST_NAMESPACES
    try:
        survey = _survey(view, most, segments, protocols, Likenesses(view) if many else None)
    except NotAlikeError:
        survey = _survey(view, most, segments, protocols, None)
    found = gather(survey.arrivals)
    return Exposed(
        segments=tuple(segments),
        exposures=found,
        forwarded=tuple(survey.passages),
        unclear=tuple(survey.unclear),
        rest=tuple(survey.rest),
        walks=survey.walks,
    )


def _survey(
    view: View, most: int, segments: Sequence[str], protocols: Sequence[str],
    alike: Likenesses | None,
) -> Survey:  # fmt: skip
    survey = Survey(view, most, alike)
    for segment in segments:
        for protocol in _worth_asking(view, protocols):
            for version in (4, 6):
                survey.ask(segment, version, PROTOCOLS[protocol])
    return survey


def _worth_asking(view: View, protocols: Sequence[str]) -> list[str]:
    """Protocols for which somebody may listen; for SCTP that is rare."""
    if not view.sockets_known:
        return list(protocols)
    listening = {item.protocol for item in view.plane if isinstance(item, Listener)}
    return [name for name in protocols if name in listening]
