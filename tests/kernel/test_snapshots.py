"""A saved host answers as the host does, to people without rights; diff says what was opened."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import Lab
from lab.daemon import SOURCE
from lab.site import HOST, Site


@pytest.fixture
def site(lab: Lab) -> Site:
    made = Site(lab)
    made.network("web", "10.20.0.0/24")
    shop = made.sandbox("shop", {"network": "web"})
    db = made.sandbox("db", {"network": "web"})
    made.serve(shop, 80)
    made.serve(db, 5432)
    return made


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everybody can enter."""
    made = Path(tempfile.mkdtemp(prefix="lks-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


ALONE = """
awk -v own="$1" '/ - nsfs / && index($5, own) != 1 { print $5 }' /proc/self/mountinfo |
    xargs -r umount -l 2>/dev/null || true  # some go meanwhile
mount -t tmpfs none /run/netns
shift
exec "$@"
"""


def ask(site: Site, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command as root on the host, where only the site is to be seen of the machine."""
    alone = ["unshare", "-m", "-p", "--fork", "--mount-proc", "sh", "-ec", ALONE, "sh"]
    command = site.daemon.cli_command(*words)
    return subprocess.run(
        [*command[:2], *alone, str(site.daemon.run_dir), *command[2:]],
        capture_output=True, text=True, timeout=60, env=site.daemon._environment(),
    )  # fmt: skip


def ask_json(site: Site, *words: str) -> tuple[int, Any]:
    done = ask(site, *words, "--format", "json")
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def ask_as_nobody(*words: str) -> subprocess.CompletedProcess[str]:
    """Ask without root, without a daemon, in another network namespace: only the file is left."""
    command = ["unshare", "-n", "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    return subprocess.run(
        [*command, sys.executable, "-m", "linkspan", *words],
        capture_output=True, text=True, timeout=60,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE), "LINKSPAN_SOCKET": "/nowhere",
             "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip


def save(site: Site, file: Path) -> str:
    done = ask(site, "snapshot", "save", str(file))
    assert done.returncode == 0, done.stderr
    return str(file)


def test_a_published_port_is_what_diff_says_first(site: Site, folder: Path):
    before = save(site, folder / "before.lks")
    same = ask(site, "diff", before, "now")
    assert (same.returncode, same.stdout[:21]) == (0, "no difference between"), same.stdout
    site.daemon.cli("publish", "shop", "8080:80")
    status, found = ask_json(site, "diff", before, "now")
    assert status == 1
    first = found["opened"][0]
    assert (first["danger"], first["targets"]) == ("anywhere", ["shop"])
    assert (first["ports"], first["addresses"]) == ([[8080, 8080]], [HOST])
    assert first["origins"][:2] == ["internet", "outside"]
    assert found["closed"] == []
    assert [one["kind"] for one in found["objects"]] == ["element"]
    text = ask(site, "diff", before, "now").stdout
    assert text.startswith("opened:\n  [strangers from anywhere] tcp 8080 of shop at 192.0.2.10")
    after = save(site, folder / "after.lks")
    status, back = ask_json(site, "diff", after, before)
    assert (status, back["opened"]) == (1, [])
    assert back["closed"][0]["danger"] == "anywhere"


def test_a_rule_that_closes_is_shown_with_its_place(site: Site, folder: Path):
    rules = "add table ip own; add chain ip own in { type filter hook forward priority 5; }"
    site.lab.run(site.host, ["nft", rules])
    before = save(site, folder / "before.lks")
    site.lab.run(site.host, ["nft", "add rule ip own in tcp dport 5432 counter drop"])
    status, found = ask_json(site, "diff", before, "now")
    assert status == 1
    (change,) = found["objects"]
    assert (change["action"], change["kind"]) == ("added", "firewall-rule")
    assert change["place"].startswith("ip own in handle ")
    assert change["object"] == "tcp dport 5432 counter drop"
    # The rule is on the way out as well, which comes before what containers lost.
    assert [(c["danger"], c["targets"]) for c in found["closed"]] == [
        ("outward", ["internet"]), ("outward", ["outside"]), ("containers", ["db"]),
    ]  # fmt: skip
    assert all(c["ports"] == [[5432, 5432]] for c in found["closed"])
    assert all("ip own in" in c["why"] for c in found["closed"])
    assert found["opened"] == []


def test_the_file_answers_everybody_as_the_host_answered_root(site: Site, folder: Path):
    site.daemon.cli("publish", "shop", "8080:80")
    file = folder / "host.lks"
    save(site, file)
    assert file.stat().st_mode & 0o777 == 0o600
    refused = ask_as_nobody("path", "--from-file", str(file), "shop", "db:5432")
    assert refused.returncode == 2
    assert "no permission to read it" in refused.stderr
    os.chown(file, 65534, 65534)
    for words, status in (
        (("path", "shop", "db:5432"), 0),
        (("path", "shop", "db:5433"), 1),
        (("path", "outside", f"{HOST}:8080"), 0),
        (("exposed",), 0),
        (("reach",), 0),
        (("map",), 0),
    ):
        live, expected = ask_json(site, *words)
        asked = ask_as_nobody(*words, "--from-file", str(file), "--format", "json")
        assert (asked.returncode, live) == (status, status), asked.stderr
        assert without_counts(json.loads(asked.stdout)) == without_counts(expected)
    shown = ask_as_nobody("snapshot", "show", str(file), "--format", "json")
    about = json.loads(shown.stdout)
    assert about["host"] == os.uname().nodename
    assert {"shop", "db"} <= {one["name"] for one in about["containers"]}
    assert about["objects"]["listeners"] >= 2


def without_counts(answer: Any) -> Any:
    """An answer without when it was given, and the numbers that packets leave in it."""
    return json.loads(re.sub(r'packets \d+ bytes \d+|"taken": [0-9.]+,', "", json.dumps(answer)))


def test_what_if_is_asked_of_this_host_and_of_a_file(site: Site, folder: Path):
    plan = ("--plan", "run --name web2 --network web -p 8081:80")
    status, answer = ask_json(site, "path", "outside", f"{HOST}:8081", *plan)
    assert (status, answer["namespace"]) == (0, "web2")
    assert "which sockets will listen in web2" in answer["not_understood"][0]
    status, answer = ask_json(site, "path", "web2", "db:5432", *plan)
    assert (status, [hop["namespace"] for hop in answer["hops"]]) == (0, ["web2", "host", "db"])
    file = folder / "host.lks"
    save(site, file)
    os.chown(file, 65534, 65534)
    asked = ask_as_nobody("path", "--from-file", str(file), "outside", f"{HOST}:8081", *plan)
    assert asked.returncode == 0, asked.stderr
    assert "web2" in asked.stdout
    done = ask_as_nobody("diff", str(file), *plan, "--format", "json")
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert found["opened"][0]["danger"] == "anywhere"
    assert found["opened"][0]["targets"] == ["web2"]
    # Nothing of it was done.
    assert {row["name"] for row in site.daemon.get("/v1/sandboxes")} == {"shop", "db"}


def test_without_a_daemon_the_store_says_what_a_plan_begins_with(
    site: Site, monkeypatch: pytest.MonkeyPatch
):
    site.daemon.stop()
    monkeypatch.setenv("LINKSPAN_STATE", str(site.daemon.state_dir))
    done = ask(site, "path", "shop", "web2:80", "--plan", "attach --name web2 --network web")
    assert done.returncode == 0, done.stderr
    assert "web2" in done.stdout
