"""The plumbing of `make clients`, without the clients: what is named is pinned, checked and documented."""

import json
import sys
from pathlib import Path

import pytest

from tests.clients.clients_check import IMAGE, Checks, started
from tests.clients.live import ROOT
from tests.clients.roster import CLIENTS, HERE, LITELLM, LOCKS, NODE, Client, pinned

NAMED = pytest.mark.parametrize("client", CLIENTS, ids=lambda client: f"{client.name}-{client.wire}")


def program_of(client: Client) -> str:
    return (HERE / ("node" if client.lock == NODE else "python") / client.program).read_text()


@NAMED
def test_every_package_is_pinned_to_one_version(client: Client) -> None:
    versions = pinned(client)
    assert list(versions) == list(client.packages)
    assert all(version[0].isdigit() for version in versions.values()), versions
    if client.lock not in (NODE, LITELLM):
        wanted = (LOCKS / f"{client.lock}.in").read_text()
        first = client.packages[0]
        assert f"=={versions[first]}\n" in wanted[wanted.index(first) :]


@NAMED
def test_every_feature_is_in_the_program_and_has_a_check(client: Client) -> None:
    asked = client.features + client.more
    assert "schema" in asked
    assert len(set(asked)) == len(asked)
    text = program_of(client)
    for feature in asked:
        assert callable(getattr(Checks, feature))
        assert f'"{feature}": ' in text or f"  {feature}: " in text or f"  {feature},\n" in text, feature


def test_every_program_belongs_to_a_client() -> None:
    programs = {path.name for path in HERE.rglob("with_*")}
    assert programs == {client.program for client in CLIENTS}


def test_the_lock_of_node_is_what_package_json_wants_and_names_no_registry() -> None:
    wanted = json.loads((HERE / NODE / "package.json").read_text())["dependencies"]
    lock = json.loads((HERE / NODE / "package-lock.json").read_text())["packages"]
    assert lock.pop("")["dependencies"] == wanted
    for name, version in wanted.items():
        assert lock[f"node_modules/{name}"]["version"] == version
    assert all("integrity" in package and "resolved" not in package for package in lock.values())
    assert set(wanted) - {"zod"} == {name for client in CLIENTS if client.lock == NODE for name in client.packages}


@NAMED
def test_the_table_in_the_docs_has_its_version(client: Client) -> None:
    lines = (ROOT / "docs" / "clients.md").read_text().splitlines()
    for package, version in pinned(client).items():
        assert any(f"{package} {version}" in line for line in lines if line.startswith("|")), f"{package} {version}"


def test_a_program_answers_job_by_job_tells_what_was_raised_and_is_heard_to_die(tmp_path: Path) -> None:
    words = [sys.executable, str(HERE / "python" / "with_openai.py"), "chat"]
    job = {"url": "http://127.0.0.1:9", "key": "none", "model": "m", "image": IMAGE}
    with started(words, tmp_path) as program:
        assert program.hello["features"][:3] == ["text", "stream", "tools"]
        assert set(program.hello["versions"]) == {"openai"}
        for _ in range(2):
            found = program.ask(feature="text", **job)
            assert found["error"]["type"] == "APIConnectionError"
            assert found["text"] == ""
        assert "KeyError: 'no such feature'" in program.ask(feature="no such feature", **job)["died"]
        assert program.start() == program.hello
    assert program.child.returncode == 0
