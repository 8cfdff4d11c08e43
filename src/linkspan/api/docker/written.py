"""What a Docker client wrote of a network and our own records have no place for.

Kept in labels of ours, which Docker's clients never see: the options in the client's own
spelling, and whether the network was called attachable.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from linkspan.drivers.bridge import OPTION_ALIASES
from linkspan.drivers.records import Network
from linkspan.errors import InvalidRequest

PREFIX = "linkspan.docker."
OPTIONS = f"{PREFIX}options"
ATTACHABLE = f"{PREFIX}attachable"

DOCKER_NAMES = {own: docker for docker, own in OPTION_ALIASES.items()}
"""Docker's name of each option of ours that has one."""


def note_written(options: Mapping[str, str], attachable: bool) -> dict[str, str]:
    """The labels that remember what would not be shown again by itself."""
    noted: dict[str, str] = {}
    if any(name not in OPTION_ALIASES for name in options):
        noted[OPTIONS] = msgspec.json.encode(dict(options)).decode()
    if attachable:
        noted[ATTACHABLE] = "true"
    return noted


def check_labels(labels: Mapping[str, str]) -> None:
    """InvalidRequest for a label that is ours."""
    for name in labels:
        if name.startswith(PREFIX):
            raise InvalidRequest(f"label {name}: labels that begin with {PREFIX} are linkspan's")


def written_options(network: Network) -> dict[str, str]:
    """A network's options as the client wrote them, or by Docker's names."""
    noted = network.labels.get(OPTIONS)
    if noted is not None:
        return msgspec.json.decode(noted, type=dict[str, str])
    return {DOCKER_NAMES.get(name, name): value for name, value in network.options.items()}


def is_attachable(network: Network) -> bool:
    """Whether the client called it attachable, which every network is for us."""
    return network.labels.get(ATTACHABLE) == "true"


def visible_labels(network: Network) -> dict[str, str]:
    """A network's labels without ours."""
    return {name: text for name, text in network.labels.items() if not name.startswith(PREFIX)}
