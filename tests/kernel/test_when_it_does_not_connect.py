"""The page that leads from symptom to answer: its commands run as written, its answers come."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

from lab import Lab
from lab.site import Site

PAGE = Path(__file__).parents[2] / "docs" / "when-it-does-not-connect.md"
_ENDS = re.compile(r"^(?:NOT DELIVERED|DELIVERED): [a-z ]*", re.M)


def test_every_answer_of_the_page_is_what_the_command_says(lab: Lab, tmp_path: Path):
    made = prepare(lab)
    asked = 0
    for block in re.findall(r"^```\n(.*?)^```", PAGE.read_text(), re.M | re.S):
        for part in re.split(r"^\$ sudo linkspan ", block, flags=re.M)[1:]:
            command, _, shown = part.partition("\n")
            done = made.daemon.cli(*shlex.split(command), check=False)
            said = f"{command}\n{done.stdout}{done.stderr}"
            ends = _ENDS.findall(shown)
            assert all(end in done.stdout for end in ends), said
            assert done.returncode == (1 if "NOT DELIVERED" in shown else 0), said
            assert "not understood" not in done.stdout, said
            asked += 1
    assert asked >= 10
    saved = str(tmp_path / "good.lks")
    assert made.daemon.cli("snapshot", "save", saved, check=False).returncode in (0, 3)
    ended = made.daemon.cli(
        "path", "--from-file", saved, "outside", "192.0.2.10:8080", check=False
    ).returncode
    assert ended == 0


def prepare(lab: Lab) -> Site:
    """The host of the page's examples."""
    made = Site(lab)
    made.network("web", "10.20.0.0/24")
    made.daemon.cli(
        "network", "create", "back", "--subnet", "10.21.0.0/24", "--subnet", "fd00:21::/64"
    )
    places: dict[str, Any] = {
        "shop": made.sandbox("shop", {"network": "web"}, ports=("8080:80", "127.0.0.1:9090:80")),
        "db": made.sandbox("db", {"network": "web"}, ports=("7000:80",)),
        "other": made.sandbox("other", {"network": "back"}, ports=("[::]:9444:80",)),
    }
    for sandbox in places.values():
        made.serve(sandbox, 80)
    enter = ["nsenter", f"--net={places['db']['netns']}"]
    subprocess.run([*enter, "ip", "route", "add", "prohibit", "192.0.2.0/24"], check=True)
    return made
