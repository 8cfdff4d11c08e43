"""Ansible's docker collection: its modules about networks, and what they find of containers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lab import Lab
from lab.site import Site

HERE = Path(sys.executable).parent


@pytest.fixture(scope="module")
def ansible() -> str:
    """The command `ansible-playbook` of an installation that has the collection."""
    found = shutil.which("ansible-playbook", path=f"{HERE}:{os.environ['PATH']}")
    if found is None:
        pytest.skip("ansible is not installed; the extra `peers` has it")
    galaxy = Path(found).with_name("ansible-galaxy")
    listed = subprocess.run(
        [galaxy, "collection", "list", "community.docker"], capture_output=True, text=True
    )
    if "community.docker" not in listed.stdout:
        pytest.skip("ansible has no community.docker; the extra `peers` has it")
    return found


class Playbook:
    """Runs tasks against a site's daemon, on this machine itself."""

    def __init__(self, program: str, site: Site, directory: Path) -> None:
        self.program = program
        self.site = site
        self.directory = directory

    def run(self, *tasks: tuple[str, dict[str, Any]]) -> list[Any]:
        """The result of each task: a module's name without collection, and its parameters."""
        host = {"docker_host": f"unix://{self.site.daemon.socket}"}
        play = {
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            "vars": {"ansible_python_interpreter": sys.executable},
            "tasks": [
                {f"community.docker.{module}": {**host, **parameters}, "ignore_errors": True}
                for module, parameters in tasks
            ],
        }
        book = self.directory / "play.json"
        book.write_text(json.dumps([play]))
        done = subprocess.run(
            [self.program, "-i", "localhost,", str(book)],
            capture_output=True,
            text=True,
            timeout=120,
            env={
                **os.environ,
                "ANSIBLE_LOCALHOST_WARNING": "false",
                "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
                "ANSIBLE_HOME": str(self.directory),
                "ANSIBLE_LOCAL_TEMP": str(self.directory / "tmp"),
                "ANSIBLE_REMOTE_TEMP": str(self.directory / "tmp"),
                "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
                "LC_ALL": "C.UTF-8",
            },
        )
        assert done.stdout.lstrip().startswith("{"), done.stdout + done.stderr
        (told,) = json.loads(done.stdout)["plays"]
        return [task["hosts"]["localhost"] for task in told["tasks"]]


def test_networks_and_members_become_what_a_playbook_says(
    lab: Lab, ansible: str, tmp_path: Path
) -> None:
    site = Site(lab)
    playbook = Playbook(ansible, site, tmp_path)
    shop, cart = site.sandbox("shop", "bridge"), site.sandbox("cart", "none")
    web = {
        "name": "web",
        "ipam_config": [{"subnet": "10.20.0.0/24", "gateway": "10.20.0.9"}],
        "driver_options": {"com.docker.network.driver.mtu": "1400"},
        "labels": {"team": "shop"},
        "attachable": True,
        "connected": ["shop"],
    }
    made, again, seen, host, changed, gone, missing = playbook.run(
        ("docker_network", web),
        ("docker_network", web),
        ("docker_network_info", {"name": "web"}),
        ("docker_host_info", {"networks": True, "containers": True}),
        ("docker_network", {**web, "connected": ["cart"]}),
        ("docker_network", {"name": "web", "state": "absent"}),
        ("docker_network_info", {"name": "web"}),
    )
    assert (made["changed"], made.get("failed", False)) == (True, False), made
    assert again["changed"] is False, again
    network = seen["network"]
    assert network["Labels"] == {"team": "shop"}
    assert network["IPAM"]["Config"] == [{"Subnet": "10.20.0.0/24", "Gateway": "10.20.0.9"}]
    assert list(network["Containers"]) == [shop["id"]]
    assert [one["Name"] for one in host["networks"]] == ["bridge", "host", "none", "web"]
    assert [one["Names"] for one in host["containers"]] == [["/cart"], ["/shop"]]
    assert changed["changed"] is True
    assert list(changed["network"]["Containers"]) == [cart["id"]]
    assert (gone["changed"], missing["exists"]) == (True, False)
    names = [one["name"] for one in site.daemon.get("/v1/networks")]
    assert names == ["bridge", "host", "none"]


def test_a_container_is_found_and_a_refusal_is_told(lab: Lab, ansible: str, tmp_path: Path) -> None:
    site = Site(lab)
    site.sandbox("shop", "bridge", ports=("8080:80",))
    found, refused, pruned = Playbook(ansible, site, tmp_path).run(
        ("docker_container_info", {"name": "shop"}),
        ("docker_network", {"name": "x", "driver_options": {"com.example.colour": "red"}}),
        ("docker_prune", {"networks": True}),
    )
    assert found["exists"] is True
    assert found["container"]["NetworkSettings"]["Networks"]["bridge"]["IPPrefixLen"] == 24
    assert refused["failed"] is True
    assert "com.example.colour" in refused["msg"]
    assert pruned["networks"] == []
