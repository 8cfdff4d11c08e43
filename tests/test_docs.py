"""Nothing public is undocumented, and the pages agree with the code."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


def load_reference() -> ModuleType:
    """scripts/docs_reference.py, which lies outside the package."""
    spec = importlib.util.spec_from_file_location(
        "docs_reference", ROOT / "scripts" / "docs_reference.py"
    )
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


reference = load_reference()


@pytest.fixture(scope="module")
def command_tree() -> list[tuple[click.Context, click.Command]]:
    from linkspan.cli import cli

    return list(reference.commands_of(cli, "linkspan"))


def test_every_command_and_option_explains_itself(command_tree):
    silent = [context.command_path for context, command in command_tree if not command.help]
    silent += [
        f"{context.command_path} {option.opts[-1]}"
        for context, command in command_tree
        for option in reference.options_of(command)
        if not option.help
    ]
    assert silent == [], "these have no help text"


def test_every_command_and_option_is_on_the_page(command_tree):
    page = (DOCS / "cli.md").read_text()
    sections = dict(re.findall(r"^### (linkspan[^\n]*)\n(.*?)(?=^##|\Z)", page, re.M | re.S))
    missing = []
    for context, command in command_tree:
        path = context.command_path
        if path not in sections:
            missing.append(path)
            continue
        for option in reference.options_of(command):
            missing += [f"{path} {one}" for one in option.opts if f"`{one}`" not in sections[path]]
    assert missing == [], "missing in docs/cli.md: run scripts/docs-reference"


def test_every_error_is_on_the_page():
    page = (DOCS / "errors.md").read_text()
    missing = [
        f"{one.__name__} ({one.code})"
        for one in reference.error_classes()
        if f"`{one.code}`" not in page or f"`{one.__name__}`" not in page
    ]
    assert missing == [], "missing in docs/errors.md: run scripts/docs-reference"


@pytest.mark.parametrize("name", reference.PAGES)
def test_the_generated_part_is_current(name: str):
    page = (DOCS / name).read_text()
    fresh = reference.replace_reference(page, reference.PAGES[name]())
    assert page == fresh, "run scripts/docs-reference"


def test_the_generator_sees_options_groups_and_hidden_things():
    @click.group(help="Top.")
    def top() -> None: ...

    @top.group(help="Inner.")
    def inner() -> None: ...

    @inner.command(help="Leaf.")
    @click.option("-p", "--publish", multiple=True, metavar="PORT", help="Publish a port.")
    @click.option("--secret", hidden=True)
    @click.argument("name")
    def leaf(publish: tuple[str, ...], secret: str, name: str) -> None: ...

    @top.command(hidden=True)
    def unseen() -> None: ...

    pairs = list(reference.commands_of(top, "top"))
    assert [context.command_path for context, _ in pairs] == ["top", "top inner", "top inner leaf"]
    text = reference.describe_command(*pairs[-1])
    assert "| `-p`, `--publish` | `PORT` | Publish a port. May be repeated. |" in text
    assert "top inner leaf [OPTIONS] NAME" in text
    assert "secret" not in text


def test_every_chain_and_set_of_the_firewall_is_explained():
    from linkspan.drivers.firewall import TABLES

    page = (DOCS / "firewall.md").read_text()
    sections = dict(re.findall(r"^## (\w+ linkspan)\n(.*?)(?=^## |\Z)", page, re.M | re.S))
    missing = [
        f"{table.family} {table.name}: {part.name}"
        for table in TABLES
        for part in (*table.chains, *table.sets)
        if f"`{part.name}`" not in sections[f"{table.family} {table.name}"]
    ]
    assert missing == []


def test_every_option_of_the_bridge_driver_is_explained():
    from linkspan.drivers.bridge import KNOWN_OPTIONS, OPTION_ALIASES

    page = (DOCS / "networks" / "bridge.md").read_text()
    names = [*KNOWN_OPTIONS, *OPTION_ALIASES]
    assert [name for name in names if f"| `{name}` |" not in page] == []


def test_every_driver_has_a_page():
    from linkspan.drivers.registry import DRIVERS

    assert [name for name in DRIVERS if not (DOCS / "networks" / f"{name}.md").exists()] == []


def test_every_field_of_a_request_is_explained():
    from linkspan.engine import requests

    page = (DOCS / "api.md").read_text()
    missing = [
        f"{name}.{field}"
        for name, one in vars(requests).items()
        if isinstance(one, type) and issubclass(one, requests.Request)
        for field in one.__struct_fields__
        if not re.search(rf"^\| [^|]*`{field}`", page, re.M)
    ]
    assert missing == []


def test_every_setting_is_explained():
    from linkspan.engine.settings import Settings

    page = (DOCS / "operations.md").read_text()
    assert [one for one in Settings.__struct_fields__ if f"| `{one}` |" not in page] == []


def nav_pages() -> list[str]:
    """The pages that the nav of mkdocs.yml names."""
    nav = (ROOT / "mkdocs.yml").read_text().split("\nnav:\n", 1)[1]
    nav = re.split(r"^\S", nav, maxsplit=1, flags=re.M)[0]
    return re.findall(r"([\w./-]+\.md)\s*$", nav, re.M)


def test_the_nav_names_every_page_and_only_pages_that_exist():
    named = nav_pages()
    assert named, "mkdocs.yml has no nav"
    there = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    assert set(named) - there == set(), "named in the nav, but not there"
    assert there - set(named) == set(), "not in the nav"


def linked_targets() -> list[tuple[str, str]]:
    """Page and target of every relative link in the docs, the README and its companions."""
    pages = [*DOCS.rglob("*.md"), *ROOT.glob("*.md")]
    return [
        (str(page.relative_to(ROOT)), target)
        for page in sorted(pages)
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text())
        if not re.match(r"[a-z]+:", target)
    ]


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as both GitHub and mkdocs make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()).strip() for heading in headings)
    return {re.sub(r"[\s-]+", "-", heading) for heading in plain}


def test_links_lead_somewhere():
    broken = []
    for page, target in linked_targets():
        name, _, anchor = target.partition("#")
        aimed = ((ROOT / page).parent / name).resolve() if name else ROOT / page
        if not aimed.exists() or (
            anchor and aimed.suffix == ".md" and anchor not in anchors_of(aimed)
        ):
            broken.append(f"{page}: {target}")
    assert broken == []
