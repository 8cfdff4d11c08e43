"""What happened, in Docker's words."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from api.docker.conversation import Ask, converse, with_filters
from api.fake_engine import FakeEngine
from linkspan.api.docker.messages import Translator
from linkspan.drivers.records import Endpoint, Network, Sandbox
from linkspan.engine.events import Event

WEB = Network(id="n1", name="web", driver="bridge")
SHOP = Sandbox(
    id="s1", name="shop", labels={"team": "x"}, endpoints=(Endpoint(id="e1", network="n1"),)
)


def happen(type: Any, action: str, name: str = "shop", id: str = "s1", **attributes: str) -> Event:
    return Event(
        id=1, time=12.5, type=type, action=action, name=name, object_id=id, attributes=attributes
    )


def tell(translator: Translator, *events: Event) -> Iterator[tuple[str, str, str]]:
    for event in events:
        for message in translator.translate(event):
            yield message.type, message.action, message.actor.id


def test_an_attached_namespace_is_created_connected_started_and_destroyed():
    translator = Translator([WEB], [], [], legacy=False)
    told = list(
        tell(
            translator,
            happen("network", "created", "db", "n2", driver="bridge"),
            happen("sandbox", "attached", networks="web"),
            happen("sandbox", "connected", network="db"),
            happen("sandbox", "disconnected", network="web"),
            happen("sandbox", "detached"),
            happen("network", "removed", "db", "n2", driver="bridge"),
        )
    )
    assert told == [
        ("network", "create", "n2"),
        ("container", "create", "s1"),
        ("network", "connect", "n1"),
        ("container", "start", "s1"),
        ("network", "connect", "n2"),
        ("network", "disconnect", "n1"),
        ("network", "disconnect", "n2"),
        ("container", "destroy", "s1"),
        ("network", "destroy", "n2"),
    ]


def test_a_container_of_ours_has_its_own_events():
    translator = Translator([WEB], [], ["s1"], legacy=False)
    told = list(
        tell(
            translator,
            happen("sandbox", "attached", networks="web"),
            happen("container", "create"),
            happen("container", "start"),
            happen("container", "die", exit_code="7"),
            happen("sandbox", "exited"),
            happen("sandbox", "detached"),
            happen("container", "remove"),
            happen("firewall", "repaired", "", ""),
        )
    )
    assert told == [
        ("network", "connect", "n1"),
        ("container", "create", "s1"),
        ("container", "start", "s1"),
        ("container", "die", "s1"),
        ("network", "disconnect", "n1"),
        ("container", "destroy", "s1"),
    ]


def test_a_message_carries_labels_and_attributes_and_old_clients_get_more():
    (new,) = Translator([WEB], [SHOP], ["s1"], False).translate(
        happen("container", "die", exit_code="7")
    )
    attributes = {"team": "x", "exitCode": "7", "name": "shop", "image": ""}
    assert new.actor.attributes == attributes
    assert (new.time, new.time_nano) == (12, 12_500_000_000)
    (old,) = Translator([WEB], [SHOP], ["s1"], True).translate(happen("container", "die"))
    assert (old.status, old.id, old.source) == ("die", "s1", "")
    (about,) = Translator([WEB], [SHOP], [], True).translate(
        happen("sandbox", "connected", network="web")
    )
    assert about.actor.attributes == {"name": "web", "type": "bridge", "container": "s1"}


def test_the_past_is_told_between_since_and_until_and_filtered():
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        began = time.time()
        await ask("POST", "/networks/create", {"Name": "web"})
        await ask("POST", "/networks/create", {"Name": "db"})
        until = f"{time.time():.6f}"

        async def told(path: str) -> list[Any]:
            reply = await ask("GET", f"{path}&since={began:.6f}&until={until}")
            assert reply.status == 200
            return [json.loads(line)["Actor"]["Attributes"]["name"] for line in
                    reply.data.splitlines()]  # fmt: skip

        assert await told("/v1.43/events?") == ["web", "db"]
        assert await told(with_filters("/events", network=["web"])) == ["web"]
        assert await told(with_filters("/events", network=["w"], event=["create"])) == ["web"]
        assert await told(with_filters("/events", event=["destroy"])) == []
        assert await told(with_filters("/events", type=["container"])) == []
        assert await told(with_filters("/events", image=["busybox"])) == []
        assert await told(with_filters("/events", scope=["local"])) == ["web", "db"]
        nothing = await ask("GET", f"/events?until={began - 1:.6f}")
        assert nothing.data == b""

    converse(talk)


def test_what_happens_until_a_moment_is_told_as_it_happens():
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        await ask("POST", "/networks/create", {"Name": "early"})
        reading = asyncio.ensure_future(ask("GET", f"/events?until={time.time() + 0.6:.6f}"))
        # One turn of the loop each until the stream listens.
        for _ in range(50):
            await asyncio.sleep(0)
        await ask("POST", "/networks/create", {"Name": "late"})
        lines = (await reading).data.splitlines()
        names = [json.loads(line)["Actor"]["Attributes"]["name"] for line in lines]
        assert names == ["early", "late"]

    converse(talk)


@pytest.mark.parametrize(
    "query", ["since=5&until=4", "since=yesterday", "until=10m", "filters={%22colour%22:[%22x%22]}"]
)
def test_a_wrong_question_is_refused(query: str):
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        reply = await ask("GET", f"/v1.43/events?{query}")
        assert reply.status == 400
        assert list(reply.body) == ["message"]

    converse(talk)
