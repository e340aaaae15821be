"""docs/troubleshooting.md, followed at a running gateway: every line it offers is pasted, every query asked.

The stage is a tenant with a trouble of each kind that the page speaks of.
"""

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from tests import cast
from tests.fakes import Behaviour, FakeProvider
from tests.faults.books import ROOT
from tests.guide.sql import for_sqlite
from tests.guide.terminal import Gateway, Terminal, commands
from tests.journeys.world import eventually

PAGE = (ROOT / "docs/troubleshooting.md").read_text()
Rows = list[tuple[Any, ...]]


def blocks(language: str) -> list[tuple[str, str]]:
    """(heading, text) of each block of code in a language."""
    found = []
    for section in re.split(r"^##+ ", PAGE, flags=re.MULTILINE)[1:]:
        heading = section.partition("\n")[0]
        found += [
            (heading, text) for text in re.findall(rf"^```{language}\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
        ]
    return found


LINES = [(heading, line) for heading, text in blocks("sh") for line in commands(text)]

# One of each trouble: a rule switched off, a model switched off, one too dear for its level, an own key not validated.
STAGE = """
import json, sys
from tests import cast
cast.make_power_levels()
openai = cast.make_provider("openai", {url!r}, name="OpenAI")
groq = cast.make_provider("groq", {url!r}, name="Groq")
cast.make_credential(openai)
for model, usd, level in (("gpt-4o", "2.50 10.00", "balanced"), ("gpt-4-turbo", "10.00 30.00", "balanced"),
                          ("gpt-4o-mini", "0.15 0.60", "eco"), ("gpt-3.5", "0.50 1.50", "balanced")):
    made = cast.make_model(openai, model, *usd.split(), power_level=level, is_active=model != "gpt-3.5")
    rule = cast.make_rule(made, user_tier="professional", priority=20 if model == "gpt-4-turbo" else 100)
cast.make_rule(cast.make_model(groq, "llama", "0.05", "0.08", power_level="eco"), user_tier="all", is_active=False)
acme = cast.make_tenant("acme")
own = cast.make_credential(groq, "gsk-own-0123456789abcdef", tenant=acme, key_name="ours", is_validated=False)
print(json.dumps({{"ADMIN_TOKEN": cast.make_staff()[1], "TENANT_KEY": cast.make_key(acme)[1], "RULE_ID": str(rule.pk),
                  "KEY_ID": str(own.pk)}}))
"""
ASK = """curl -X POST "http://localhost:8084/v1/chat/completions" -H "Authorization: Bearer $TENANT_KEY" \\
  -H "Content-Type: application/json" -d '{"model": "MODEL", "messages": [{"role": "user", "content": "Hello"}]}'"""


class Trouble:
    """The gateway, a terminal with the variables that the page asks for, and the database."""

    def __init__(self, gateway: Gateway, terminal: Terminal) -> None:
        self.gateway = gateway
        self.terminal = terminal

    def query(self, text: str) -> Rows:
        """A query of the page; on SQLite with the one change that the page names."""
        books = self.gateway.books
        return books.query(text if books.postgres else for_sqlite(text))

    def usd(self, value: Any) -> Decimal:
        return self.gateway.books.usd(value)


@pytest.fixture(scope="module")
def trouble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trouble]:
    with FakeProvider() as vendor, Gateway() as gateway:
        vendor.script("*", Behaviour(usage={"prompt_tokens": 1000, "completion_tokens": 100}))
        variables = gateway.shell(STAGE.format(url=vendor.base_url))
        terminal = Terminal(gateway.serve(), tmp_path_factory.mktemp("home"), variables)
        for model, status in (("balanced", 200), ("eco", 200), ("openai/gpt-4-turbo", 200), ("groq/llama", 503)):
            assert terminal.paste(ASK.replace("MODEL", model))[0] == status
        trouble = Trouble(gateway, terminal)
        eventually(lambda: trouble.query("SELECT id FROM llm_route_refusals"), what="the refusal's row")
        [(request_id,)] = trouble.query("SELECT id FROM llm_usage_logs ORDER BY id LIMIT 1")
        terminal.variables["REQUEST_ID"] = str(request_id)
        yield trouble


TURBO, GPT, MINI = Decimal("0.013"), Decimal("0.0035"), Decimal("0.00021")  # what the three requests cost
BALANCED_RULES = [("gpt-4-turbo", 20), ("gpt-3.5", 100), ("gpt-4o", 100)]


def queries_say(trouble: Trouble) -> dict[str, Rows]:
    """What each query of the page says of this stage, by its heading; equals in rank are sorted."""
    usd = trouble.usd
    found = {heading: trouble.query(text) for heading, text in blocks("sql")}
    found["Ask the request itself"] = [row[1:5] for row in found["Ask the request itself"]]
    found["Are there rules?"].sort()
    found["Which rule comes first?"].sort()
    for heading, first in (
        ("Does the price fit the power level?", 3),
        ("Would it be used, and was it?", 3),
        ("Which models cost most?", 1),
        ("Would eco do?", 3),
    ):
        found[heading] = [(*row[:first], *map(usd, row[first:])) for row in found[heading]]
    found["Which models cost most?"] = [row[1:] for row in found["Which models cost most?"]]
    return found


def test_every_query_of_the_page_answers_its_question(trouble: Trouble) -> None:
    professional = ("professional", "general")
    assert queries_say(trouble) == {
        "Ask the request itself": [("acme", "groq/llama", 503, "no_credential")],
        "Are there rules?": sorted(
            [("balanced", *professional, priority, model, "OpenAI") for model, priority in BALANCED_RULES]
            + [("eco", *professional, 100, "gpt-4o-mini", "OpenAI")]
        ),
        "Are the models active?": [("openai", "gpt-3.5", True, False, False, None)],
        "Does the price fit the power level?": [("balanced", "openai", "gpt-4-turbo", 5, 15)],
        "Is there a key, and is the provider up?": [("groq", "unknown", None, 0), ("openai", "unknown", None, 1)],
        "Is it validated?": [("Groq", "ours", "gsk-", "cdef", True, False, "", None)],
        "Would it be used, and was it?": [("openai", False, 3, TURBO + GPT + MINI)],
        "Which models cost most?": [(TURBO,), (GPT,), (MINI,)],
        "Would eco do?": [("balanced", 2, 2200, TURBO + GPT), ("eco", 1, 1100, MINI)],
        "Which rule comes first?": sorted(
            (priority, 100, *professional, "openai", model) for model, priority in BALANCED_RULES
        ),
    }


def test_every_line_of_the_page_answers_its_question(trouble: Trouble) -> None:
    answers: dict[str, list[Any]] = {}
    for heading, line in LINES:
        if "/byok/" not in line:
            status, answer = trouble.terminal.paste(line)
            assert status in {200, 201}, (heading, line, answer)
            answers.setdefault(heading, []).append(answer)
    row, explained = answers["Ask the request itself"]
    assert (row["model"], row["decision"]["chosen"]) == ("openai/gpt-4o", "openai/gpt-4o")
    assert [(one["model"], one["code"]) for one in explained["rejections"]] == [
        ("openai/gpt-4-turbo", "price_cap"),
        ("openai/gpt-3.5", "inactive"),
    ]
    rules, made = answers["Are there rules?"]
    assert [rule["priority"] for rule in rules["results"]] == [20, 100, 100]
    assert (made["model"], made["priority"]) == ("openai/gpt-4o", 50)
    active, _ = answers["Are the models active?"]
    assert [model["model_id"] for model in active["results"]] == ["gpt-4-turbo", "gpt-4o"]
    levels, _ = answers["Does the price fit the power level?"]
    assert [Decimal(level["max_price_per_1m_usd"]) for level in levels["results"]] == [Decimal("0.5"), 5, 100]
    provider, tested, health = answers["Is there a key, and is the provider up?"]
    assert (provider["platform_key"], tested["ok"], health["status"]) == ("1 stored", True, "healthy")
    used, by_byok = answers["Would it be used, and was it?"]
    assert (used["chosen"]["key_source"], [one["byok"] for one in by_byok["results"]]) == ("platform", [False])
    for summary in answers["Which models cost most?"]:
        assert [Decimal(one["cost_usd"]) for one in summary["results"]] == [TURBO, GPT, MINI]
    by_level, eco = answers["Would eco do?"]
    assert [one["power_level"] for one in by_level["results"]] == ["balanced", "eco"]
    assert eco["chosen"] == {
        "provider": "openai", "model": "openai/gpt-4o-mini", "key_source": "platform", "estimated_cost": "0.0006",
    }  # fmt: skip
    in_order, changed = answers["Which rule comes first?"]
    assert [rule["priority"] for rule in in_order["results"]] == [20, 50, 100, 100]
    assert changed["priority"] == 10
    me, tenant = answers["Make sure it stays within bounds"]
    assert {Decimal(limit["spent"]) for limit in me["limits"]} == {TURBO + GPT + MINI}
    assert Decimal(tenant["budget_limit_daily"]) == 20


def test_an_own_key_is_seen_tested_and_then_used(trouble: Trouble) -> None:
    """The lines about BYOK: the key that was not validated is, once the provider has accepted it."""
    listed, tested = (trouble.terminal.paste(line) for _, line in LINES if "/byok/" in line)
    assert (listed[0], [key["is_validated"] for key in listed[1]["results"]]) == (200, [False])
    assert (tested[0], tested[1]["is_validated"], tested[1]["validation_error"]) == (200, True, "")
    ask = ASK.replace("MODEL", "groq/llama")
    eventually(lambda: trouble.terminal.paste(ask)[0] == 200, what="a request with the own key")
    assert trouble.query("SELECT used_byok FROM llm_usage_logs ORDER BY id DESC LIMIT 1") == [(True,)]


def test_every_page_of_the_admin_it_names_is_there(db: None, client: Client) -> None:
    client.force_login(cast.make_staff()[0])
    pages = set(re.findall(r"`(/admin/[a-z/]*)`", PAGE))
    assert len(pages) == 11
    assert {page: client.get(page).status_code for page in pages} == dict.fromkeys(pages, 200)
