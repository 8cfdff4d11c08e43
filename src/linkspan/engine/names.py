"""Names of networks, sandboxes and containers: the rule, and readable ones made up."""

from __future__ import annotations

import random
import re
from collections.abc import Container

from linkspan.errors import InvalidRequest

LONGEST_NAME = 128
_RULES = {"network": re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")}
_RULE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_ID = re.compile(r"[0-9a-f]{64}")

_QUALITIES = (  # noqa: SIM905
    "agile amber ample apt arctic azure balmy blithe bold breezy brisk bright broad buoyant calm "
    "candid cheery clear cobalt coral cosy crisp curly daring deft eager early easy fair fleet "
    "fond frank free fresh gentle gilded glad golden grand hale handy hardy hearty honest jaunty "
    "jolly jovial keen kind level light lively lucid lucky lunar mellow merry mild misty neat "
    "nimble noble northern patient placid plucky polar polite proud quick quiet ready rosy ruddy "
    "rustic sandy serene sharp silver sleek smart snug sober solar solid spry stable starry "
    "staunch steady still stout sturdy sunny supple sure swift tidal tidy tranquil trim true "
    "upbeat valiant vivid warm western windy wise witty zesty"
).split()
_SHIPS = (  # noqa: SIM905
    "anchor ballast barge barque beacon binnacle bollard bosun bowline breakwater brig bulwark "
    "buoy cabin canal capstan caravel catamaran clipper coaster coble compass corvette coxswain "
    "cutter davit deck dhow dinghy dock dory estuary fathom felucca fender ferry fjord frigate "
    "galleon galley gangway gig gondola halyard harbour hatch haven hawser headland helm hoy hull "
    "isle jetty jib junk kayak kedge keel ketch lagoon landing lateen launch lighter lighthouse "
    "longboat lugger mainsail marina mast mooring outrigger packet paddle pier pilot pinnace port "
    "portside prow punt quay raft reef rigging rudder sail sampan schooner scow sextant shallop "
    "shoal skerry skiff skipper slipway sloop smack sounding spar spinnaker starboard steamer "
    "stern strait tack tender tideway tiller transom trawler trimaran tug warp wharf wherry "
    "windlass xebec yacht yawl"
).split()


def check_name(kind: str, name: str) -> str:
    """The name itself, when it follows Docker's rule, so that a name works in both.

    A network's name may be a single character, a sandbox's has two at least.

    Raises:
        InvalidRequest: it is too short or long, has other characters, or looks like an id.
    """
    rule = _RULES.get(kind, _RULE)
    if len(name) > LONGEST_NAME or not rule.fullmatch(name):
        shown = name if len(name) <= LONGEST_NAME else f"{name[:20]}..."
        least = 1 if kind in _RULES else 2
        raise InvalidRequest(
            f"{shown!r} is no name for a {kind}: use {least} to {LONGEST_NAME} letters, digits, "
            "'_', '.' and '-', with a letter or digit first"
        )
    if _ID.fullmatch(name):
        raise InvalidRequest(
            f"{name[:12]}... is no name for a {kind}: 64 hex digits are an id; choose another"
        )
    return name


def generate_name(taken: Container[str], chance: random.Random | None = None) -> str:
    """A readable name that is not in `taken`, such as brisk_ketch; with a number if need be."""
    chance = chance or random.Random()
    for attempt in range(1_000_000):
        name = f"{chance.choice(_QUALITIES)}_{chance.choice(_SHIPS)}"
        # Pairs run out at some ten thousand; numbers make room long before that.
        if attempt >= 10:
            name = f"{name}{chance.randrange(10 ** min(9, attempt // 10))}"
        if name not in taken:
            return name
    raise AssertionError("a million attempts found no free name")
