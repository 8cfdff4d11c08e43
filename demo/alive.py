"""A chapter of its own: what changes while containers run, and their connections stay."""

from __future__ import annotations

from demo.cast import Cast
from demo.teller import Teller

ASK = "curl -sI -m 3"


def change_while_it_runs(teller: Teller, cast: Cast, outside: str, host: str) -> None:
    """Names, one more network, one more port, and all of it taken back."""
    teller.chapter("While it runs: names, networks, ports")
    lookup = f"{cast.inside('shop')} getent hosts clerk"
    if cast.runs:
        teller.say("Containers find each other by name, on the networks they share. Not here yet:")
        teller.run(lookup, "the shop does not know the clerk", refused=True)
    teller.say("One more network for the shop, without a restart:")
    teller.run("linkspan network connect office shop")
    if cast.runs:
        teller.run(lookup, "now it does, by name", shows=r"10\.30\.0\.\d+\s+clerk")
    teller.run(
        f"{cast.inside('shop')} ip -brief -4 address show eth1",
        "it has an address there",
        shows=r"10\.30\.0\.",
    )
    teller.say("One more port, and it is open at once:")
    teller.run("linkspan publish shop 8081:80")
    teller.run(
        f"{outside} {ASK} http://{host}:8081/ | head -1", "answered from outside", shows="200 OK"
    )
    teller.say("Both are taken back, and the shop never stopped:")
    teller.run("linkspan unpublish shop 8081")
    teller.run("linkspan network disconnect office shop")
    teller.run(f"{outside} {ASK} http://{host}:8081/", "closed again", refused=True)
    teller.run(f"{outside} {ASK} http://{host}:8080/ | head -1", "8080 stayed open", shows="200 OK")
