"""`linkspan map` on a host that linkspan made: every link that `ip` shows, once."""

from __future__ import annotations

import json

from lab import Lab
from lab.site import Site


def test_every_link_of_the_host_and_its_sandboxes_is_on_the_map_once(lab: Lab):
    site = Site(lab)
    for name, subnet in (("web", "10.20.0.0/24"), ("back", "10.21.0.0/24")):
        site.network(name, subnet)
    shop = site.sandbox("shop", {"network": "web"}, ports=("8080:80",))
    db = site.sandbox("db", {"network": "web"}, {"network": "back"})
    quiet = site.sandbox("quiet")
    lab.run(site.host, "ip link add vx9 type vxlan id 9 remote 192.0.2.20 dstport 4789 dev uplink")
    lab.run(site.host, ["ip", "link", "add", "name", "a", "type", "veth", "peer", "name", "b"])
    answer = json.loads(site.daemon.cli("map", "--format", "json").stdout)
    places = {
        "host": site.host, site.neighbour.name: site.neighbour,
        **{row["name"]: row["netns"] for row in (shop, db, quiet)},
    }  # fmt: skip
    seen = sorted(
        (one["namespace"], one["name"], one["up"])
        for one in answer["links"]
        if one["namespace"] in places
    )
    there = sorted(
        (name, link["ifname"], "UP" in link["flags"])
        for name, place in places.items()
        for link in json.loads(lab.run(place, "ip -j link").stdout)
    )
    assert seen == there
    edges = {(edge["kind"], edge["from"], edge["to"]) for edge in answer["edges"]}
    assert ("parent-of", "link:host/uplink", "link:host/vx9") in edges
    assert ("tunnel-to", "link:host/vx9", "address:192.0.2.20") in edges
    assert ("cable", "link:host/a", "link:host/b") in edges
    links = {one["id"]: one for one in answer["links"]}
    for sandbox, endpoint in ((row, end) for row in (shop, db) for end in row["endpoints"]):
        inner = next(
            one for one in answer["links"]
            if one["namespace"] == sandbox["name"] and endpoint["ipv4"] in one["addresses"]
        )  # fmt: skip
        (near,) = (f for kind, f, to in edges | {(k, t, f) for k, f, t in edges}
                   if kind == "cable" and to == inner["id"])  # fmt: skip
        (bridge,) = (to for kind, f, to in edges if (kind, f) == ("port-of", near))
        assert links[bridge]["kind"] == "bridge"
    tree = site.daemon.cli("map").stdout
    lines = [line for line in tree.splitlines() if " shop (linkspan)" in line]
    assert len(lines) == 1, "it is on one network"
    assert "publishes 0.0.0.0:8080->80/tcp" in lines[0]
    assert sum(" db (linkspan)" in line for line in tree.splitlines()) == 2
    assert tree.index("joined to nothing") < tree.index(" quiet (linkspan)")
