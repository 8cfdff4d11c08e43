"""Docker's API as the page describes it: every field and filter is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from linkspan.api.docker import containers, networks
from linkspan.api.docker.connections import EndpointIPAMRequest, EndpointRequest
from linkspan.api.docker.creation import DockerNetworkRequest, IPAMConfigRequest, IPAMRequest
from linkspan.api.docker.endpoint import MAX_VERSION, MIN_VERSION
from linkspan.api.docker.paths import AREAS
from linkspan.api.docker.system import show_version

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "docker-api.md").read_text()


@pytest.mark.parametrize(
    "request_type",
    [DockerNetworkRequest, IPAMRequest, IPAMConfigRequest, EndpointRequest, EndpointIPAMRequest],
)
def test_every_field_of_a_request_is_on_the_page(request_type: Any):
    names = [field.encode_name for field in msgspec.structs.fields(request_type)]
    missing = [name for name in names if f"`{name}`" not in PAGE and f".{name}`" not in PAGE]
    assert [name for name in missing if name not in ("IPAM", "IPAMConfig")] == []


def test_every_filter_is_on_the_page():
    for filters in (networks.LIST_FILTERS, networks.PRUNE_FILTERS, containers.LIST_FILTERS):
        assert f"| {', '.join(f'`{name}`' for name in filters)} |" in PAGE


def test_the_versions_are_on_the_page():
    assert f"versions {show_version(MIN_VERSION)} to {show_version(MAX_VERSION)}" in PAGE


def test_every_operation_is_in_an_area_of_dockers():
    from linkspan.api.docker.application import OPERATIONS

    assert {one.path.split("/")[1] for one in OPERATIONS} <= AREAS
