"""One list of containers out of all sources: who is believed, and who is called what."""

from __future__ import annotations

import os
from typing import NamedTuple

import pytest

from linkspan.cli.whereabouts import find_container, parse
from linkspan.errors import InvalidRequest, LinkspanError, NotFound
from linkspan.inventory import naming
from linkspan.inventory.naming import Named, name_namespaces
from linkspan.inventory.records import Container
from linkspan.inventory.sightings import Identity, Sighting

OWN = (4, 1)
A, B, C = "a" * 64, "b" * 64, "bc" * 32


class Space(NamedTuple):
    path: str
    identity: Identity
    kind: str = "named"
    pids: tuple[int, ...] = ()


@pytest.fixture(autouse=True)
def paths_are_identities(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sighting's path "/N" leads to the namespace (4, N); none leads nowhere."""
    monkeypatch.setattr(
        naming, "identify", lambda one: (4, int(one.path.strip("/"))) if one.path else None
    )


def name(*sightings: Sighting, spaces: tuple[Space, ...] = (), near: tuple[int, ...] = ()) -> Named:
    found = (Space("/proc/1/ns/net", OWN, "process", (1,)), *spaces)
    return name_namespaces(found, sightings, OWN, lambda _: {(4, one) for one in (1, *near)})


def seen(runtime: str, name: str, space: int, id: str = "", **more: object) -> Sighting:
    return Sighting(runtime=runtime, name=name, id=id, path=f"/{space}", **more)  # type: ignore[arg-type]


def test_sources_complete_each_other_by_id() -> None:
    listed = Sighting(runtime="docker", name="web", id=A, image="shop:1")
    task = seen("docker", "", 2, A)
    (host, web) = name(listed, task).containers
    assert (host.name, host.runtime, host.namespace) == ("host", "host", "host")
    assert (web.name, web.namespace, web.image, web.id) == ("web", "web", "shop:1", A)


def test_a_container_that_does_not_run_is_left_out() -> None:
    named = name(Sighting(runtime="docker", name="web", id=A))
    assert [one.name for one in named.containers] == ["host"]


def test_two_with_one_name_are_told_apart_by_their_runtimes() -> None:
    named = name(seen("docker", "web", 2, A), seen("podman", "web", 3, B), near=(2, 3))
    assert set(named.paths) == {"host", "docker:web", "podman:web"}
    with pytest.raises(InvalidRequest, match="may mean docker:web or podman:web"):
        find_container("web", named.containers)
    assert find_container("podman:web", named.containers).id == B
    assert parse("podman:web").name == "podman:web"
    assert parse("podman:web:80")[1:] == ("podman:web", None, 80)


def test_the_one_on_this_host_keeps_the_name() -> None:
    named = name(seen("docker", "web", 2, A), seen("podman", "web", 3, B), near=(3,))
    assert find_container("web", named.containers).id == B
    assert find_container("docker:web", named.containers).id == A


def test_one_runtime_with_one_name_twice() -> None:
    named = name(seen("docker", "web", 2, A), seen("docker", "web", 3, B), near=(2, 3))
    assert set(named.paths) == {"host", "docker:web", f"docker:{B[:12]}"}
    with pytest.raises(InvalidRequest, match=f"{A} or {B}"):
        find_container("web", named.containers)


def test_guests_share_the_namespace_of_their_host() -> None:
    named = name(
        seen("docker", "side", 2, B, guest=True), seen("docker", "web", 2, A),
        seen("docker", "near", 1, C),
    )  # fmt: skip
    assert [(one.name, one.namespace) for one in named.containers] == [
        ("host", "host"), ("near", "host"), ("web", "web"), ("side", "web"),
    ]  # fmt: skip


def test_a_container_called_host_does_not_hide_the_host() -> None:
    named = name(seen("docker", "host", 2, A))
    assert find_container("host", named.containers).runtime == "host"
    assert find_container("docker:host", named.containers).id == A


def test_namespaces_that_no_runtime_tells_of() -> None:
    own = os.getpid()
    with open("/proc/self/comm") as file:
        program = file.read().strip().replace(" ", "_")
    named = name(
        spaces=(
            Space("/run/netns/blue", (4, 2)),
            Space("/run/linkspan/netns/shop", (4, 3)),
            Space(f"/proc/{own}/ns/net", (4, 4), "process", (own,)),
            Space(f"/proc/{own}/fd/9", (4, 5), "open-file"),
        )
    )
    assert [(one.name, one.runtime) for one in named.containers[1:]] == [
        ("blue", "netns"), ("shop", "linkspan"), (f"{program}-{own}", "process"),
        (f"{program}-{own}-fd9", "process"),
    ]  # fmt: skip
    assert named.paths["blue"] == "/run/netns/blue"
    assert find_container("netns:/run/netns/blue", named.containers).name == "blue"
    assert find_container("netns:blue", named.containers).name == "blue"
    assert find_container(f"pid:{own}", named.containers).name == f"{program}-{own}"


def test_ids_and_their_unique_beginnings() -> None:
    containers = name(
        seen("docker", "web", 2, A), seen("docker", "db", 3, B), seen("docker", "mail", 4, C)
    ).containers
    assert find_container(A, containers).name == "web"
    assert find_container("aaa", containers).name == "web"
    assert find_container("bbb", containers).name == "db"
    with pytest.raises(NotFound):
        find_container("aa", containers)
    with pytest.raises(NotFound):
        find_container("b", containers)


def test_aliases_of_several_are_ambiguous() -> None:
    containers = name(
        seen("docker", "p-web-1", 2, A, aliases=("web",)),
        seen("docker", "p-web-2", 3, B, aliases=("web",)),
    ).containers
    with pytest.raises(InvalidRequest, match="docker:p-web-1 or docker:p-web-2"):
        find_container("web", containers)


def test_names_that_nothing_has() -> None:
    containers = name(seen("docker", "web", 2, A)).containers
    with pytest.raises(NotFound, match="did you mean web"):
        find_container("wbe", containers)
    with pytest.raises(NotFound, match="did you mean web"):
        find_container("wbe", containers, unseen=("something is hidden",))
    with pytest.raises(LinkspanError, match="something is hidden") as refused:
        find_container("mail", containers, unseen=("something is hidden",))
    assert not isinstance(refused.value, NotFound)


def test_every_container_is_found_by_what_it_is_called() -> None:
    named = name(
        seen("linkspan", "web", 2, A), seen("docker", "web", 3, B), seen("podman", "db", 4, C),
        spaces=(Space("/run/netns/web", (4, 5)), Space("/run/netns/outside", (4, 6))),
        near=(2, 3, 4, 5),
    )  # fmt: skip
    names = [one.namespace for one in named.containers]
    assert len(names) == len(set(names)) == len(named.paths)
    for one in named.containers:
        assert isinstance(one, Container)
        assert find_container(one.namespace, named.containers) == one
