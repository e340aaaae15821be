"""The Grafana dashboard and the rules in docs/operate.md speak only of what `/metrics` has."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.fakes import Behaviour
from tests.faults.books import ROOT
from tests.journeys.world import eventually
from tests.metrics.served import Scrape, Served

DASHBOARD = json.loads((ROOT / "docs/grafana/tollgate.json").read_text())
BLOCKS = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/operate.md").read_text(), re.DOTALL)
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
# What Prometheus itself adds to a sample, and the bounds of buckets.
ADDED = {"instance", "job", "le"}


def rules() -> list[dict[str, Any]]:
    return [rule for block in BLOCKS for group in yaml.safe_load(block).get("groups", ()) for rule in group["rules"]]


def expressions() -> Iterator[tuple[str, str]]:
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["definition"]
    for rule in rules():
        yield rule["alert"], rule["expr"]


@pytest.fixture
def scrape(served: Served) -> Scrape:
    """After one request of each kind, so that every metric has samples."""
    served.ask()
    served.ask(stream=True)
    served.ask(key="poor")
    served.vendor.script("first", Behaviour(status=500))
    served.ask("balanced")
    return eventually(lambda: (now := served.scrape())("job_runs") and now, within_s=8, what="the jobs")


def test_every_expression_names_metrics_and_labels_that_there_are(scrape: Scrape) -> None:
    labels: dict[str, set[str]] = {}
    for sample in scrape.samples:
        labels.setdefault(sample.name, set()).update(sample.labels)
    seen = set()
    for where, expression in expressions():
        names = set(re.findall(r"\btollgate_\w+", expression))
        assert names <= set(labels), (where, names - set(labels))
        assert names or expression.startswith("up{"), where
        used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", expression))
        used |= {label for by in re.findall(r"\bby \(([^)]*)\)", expression) for label in by.split(", ")}
        known = set().union(*(labels[name] for name in names)) | ADDED
        assert used <= known, (where, used - known)
        seen |= {re.sub(r"_(bucket|count|sum)$", "", name) for name in names}
    # And there is no metric that the dashboard forgot.
    assert {re.sub(r"_(bucket|count|sum)$", "", name) for name in labels} == seen


def test_legends_name_labels_that_their_expression_leaves() -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            outermost = re.search(r"\bby \(([^)]*)\)", target["expr"])
            left = set(outermost.group(1).split(", ")) if outermost else {"instance", "pid"}
            assert shown <= left, (panel["title"], shown - left)


def test_the_dashboard_can_be_imported_anywhere_and_explains_itself() -> None:
    assert [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"] == [
        "Traffic", "Latency", "Money", "Providers", "Ledger", "Processes",
    ]  # fmt: skip
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    squares: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        own = {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}
        assert not own & squares, panel["title"]
        assert all(x < 24 for x, _ in own)
        squares |= own
    for panel in PANELS:
        assert panel["description"].endswith("."), panel["title"]
        sources = {target["datasource"]["uid"] for target in panel["targets"]} | {panel["datasource"]["uid"]}
        assert sources == {"${datasource}"}


def test_the_alert_rules_say_what_to_do() -> None:
    assert len(BLOCKS) == 2
    assert yaml.safe_load(BLOCKS[0])["scrape_configs"][0]["job_name"] == "tollgate"
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names)) == 12
    assert all(rule["annotations"]["summary"].endswith((".", "?")) for rule in rules())


def test_every_metric_has_a_manual_and_the_units_of_prometheus(scrape: Scrape) -> None:
    for name, family in scrape.families.items():
        assert name.startswith("tollgate_")
        assert len(family.documentation) > 20, name
        assert family.documentation.endswith("."), name
        assert not re.search(r"_(ms|us|milliseconds|percent|mb|kb)$", name)
