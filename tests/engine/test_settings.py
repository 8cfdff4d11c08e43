"""Settings come from a file and from the command line, and say what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from linkspan.engine.ipam import parse_pool
from linkspan.engine.lock import Lock
from linkspan.engine.settings import Settings, load_settings
from linkspan.errors import Conflict, InvalidRequest, StorageFailed


def test_a_file_states_them_and_the_command_line_goes_first(tmp_path: Path) -> None:
    file = tmp_path / "linkspan.toml"
    file.write_text('default_network = "none"\nrun_dir = "/run/other"\nport_range = [100, 200]\n')
    settings = load_settings(str(file), state_dir="/state", run_dir=None)
    assert settings == Settings(
        state_dir="/state", run_dir="/run/other", default_network="none", port_range=(100, 200)
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("colour = 1", "colour"),
        ("state_dir = 1", "state_dir"),
        ("state_dir = 'here'", "absolute"),
        ("port_range = [5, 1]", "port_range"),
        ("port_range = [0, 1]", "port_range"),
        ("nonsense", "linkspan.toml"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "linkspan.toml"
    file.write_text(text)
    with pytest.raises(InvalidRequest, match=says):
        load_settings(str(file))


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no file"):
        load_settings(str(tmp_path / "linkspan.toml"))


def test_the_default_pools_are_pools() -> None:
    assert [parse_pool(text).length for text in Settings().default_pools] == [24, 24]


def test_a_folder_is_locked_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linkspan.engine.lock._NAME", f"\0{tmp_path}/1")
    first = Lock(str(tmp_path / "state"), str(tmp_path / "run"))
    with pytest.raises(Conflict, match="already works"):
        Lock(str(tmp_path / "other"), str(tmp_path / "other-run"))
    monkeypatch.setattr("linkspan.engine.lock._NAME", f"\0{tmp_path}/2")
    with pytest.raises(Conflict, match="run is in use"):
        Lock(str(tmp_path / "other"), str(tmp_path / "run"))
    first.release()
    Lock(str(tmp_path / "other"), str(tmp_path / "run")).release()
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed, match="file"):
        Lock(str(tmp_path / "file"), str(tmp_path / "run"))
