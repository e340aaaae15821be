"""The guide's requests, pasted into a shell, at a gateway whose catalog is empty; and what its reader does next."""

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import FakeProvider
from tests.guide.terminal import Gateway, Terminal, commands
from tests.guide.text import REQUESTS
from tests.journeys.world import eventually

LIST, CREATE, HEALTH = commands(REQUESTS)
ADMIN, TENANT = "ADMIN_TOKEN", "TENANT_KEY"
KEYS = """
import json
from tests import cast
print(json.dumps({"ADMIN_TOKEN": cast.make_staff()[1], "TENANT_KEY": cast.make_key(cast.make_tenant())[1]}))
"""


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """Two keys, and nothing in the catalog."""
    with Gateway() as gateway:
        keys = gateway.shell(KEYS)
        yield Terminal(gateway.serve(), tmp_path, keys)


def get(path: str, key: str = TENANT) -> str:
    return f'curl -X GET "http://localhost:8084{path}" -H "Authorization: Bearer ${key}"'


def send(method: str, path: str, key: str, body: dict[str, Any]) -> str:
    kind = '-H "Content-Type: application/json"'
    return f"curl -X {method} {get(path, key).removeprefix('curl -X GET ')} {kind} -d '{json.dumps(body)}'"


TENANTS_LISTS = [
    get("/api/v1/llm/providers"),
    get("/api/v1/llm/models"),
    get("/api/v1/llm/models?provider_name=Anthropic"),
    get("/api/v1/llm/configs"),
]


def live(terminal: Terminal, line: str, wanted: Callable[[int, Any], bool]) -> Any:
    """The answer once an edit is live, which takes two seconds at most."""
    seen: list[Any] = []

    def asked() -> bool:
        seen[:] = terminal.paste(line)
        return wanted(seen[0], seen[1])

    eventually(asked, what=f"what was wanted of {line}")
    return seen[1]


def listed(terminal: Terminal, line: str) -> list[Any]:
    """The rows of a list that fits on a page."""
    status, answer = terminal.paste(line)
    assert status == 200
    assert (answer["count"], answer["next"], answer["previous"]) == (len(answer["results"]), None, None)
    found: list[Any] = answer["results"]
    return found


def test_the_guides_reader_from_an_empty_catalog_to_an_answer(terminal: Terminal, fake: FakeProvider) -> None:
    """The steps below, in this order: each finds what those before it have left."""
    at_first_every_list_is_empty(terminal)
    the_guides_provider_is_made_and_is_number_one(terminal)
    made_again_it_is_a_conflict_and_there_is_still_one(terminal)
    its_health_is_told_in_words_although_nobody_has_a_key_for_it(terminal)
    a_model_comes_with_its_first_price_and_is_in_both_lists(terminal)
    a_rule_and_a_config_name_it_by_provider_and_model_id(terminal)
    without_a_key_explain_says_what_is_missing(terminal)
    with_a_platform_key_it_is_healthy_and_answers_and_the_bill_is_exact(terminal, fake)


def at_first_every_list_is_empty(terminal: Terminal) -> None:
    without_curl = Terminal(terminal.host, terminal.folder, terminal.variables, curl=False)
    for line in [LIST, *TENANTS_LISTS]:
        assert listed(terminal, line) == listed(without_curl, line) == []


def the_guides_provider_is_made_and_is_number_one(terminal: Terminal) -> None:
    status, made = terminal.paste(CREATE)
    asked = json.loads(CREATE.partition("-d '")[2].removesuffix("'"))
    asked |= {"slug": asked.pop("provider_slug"), "name": asked.pop("provider_name")}
    assert status == 201
    assert {name: made[name] for name in asked} == asked
    assert (made["number"], made["dialect"], made["is_active"], made["model_count"]) == (1, "anthropic", True, 0)
    assert listed(terminal, LIST) == [made]
    assert [row["slug"] for row in listed(terminal, TENANTS_LISTS[0])] == ["anthropic"]


def made_again_it_is_a_conflict_and_there_is_still_one(terminal: Terminal) -> None:
    status, answer = terminal.paste(CREATE)
    assert status == 409
    assert answer["error"]["message"] == (
        "There is a provider with this name already. Choose another, or change that one."
    )
    assert len(listed(terminal, LIST)) == 1


def its_health_is_told_in_words_although_nobody_has_a_key_for_it(terminal: Terminal) -> None:
    status, health = terminal.paste(HEALTH)
    assert status == 200
    assert health == {
        "provider": "anthropic",
        "status": "unknown",
        "checked_at": None,
        "response_time_ms": None,
        "status_code": None,
        "error": "",
        "message": "It has not been asked yet. POST .../test asks it now, a job does so every few minutes.",
        "checks": [],
    }


def a_model_comes_with_its_first_price_and_is_in_both_lists(terminal: Terminal) -> None:
    model = {
        "provider": "anthropic",
        "model_id": "claude-haiku-4-5",
        "name": "Claude Haiku 4.5",
        "context_window": 200_000,
        "max_output_tokens": 64_000,
        "supports_function_calling": True,
        "power_level": "balanced",
        "cost_per_1m_input_tokens": "1.00",
        "cost_per_1m_output_tokens": "5.00",
        "cost_per_1m_cached_tokens": "0.10",
    }
    status, made = terminal.paste(send("POST", "/api/v1/admin/llm/models", ADMIN, model))
    assert (status, made["input_cost_per_1k"], made["output_cost_per_1k"]) == (201, "0.001", "0.005")
    assert made["price_version"]["number"] == 1
    for line in (get("/api/v1/admin/llm/models", ADMIN), *TENANTS_LISTS[1:3]):
        (row,) = listed(terminal, line)
        assert (row["reference"], row["cost_per_1m_cached_tokens"]) == ("anthropic/claude-haiku-4-5", "0.1")
    assert listed(terminal, get("/api/v1/llm/models?provider_name=Nobody")) == []


def a_rule_and_a_config_name_it_by_provider_and_model_id(terminal: Terminal) -> None:
    rule = {"model_id": "anthropic/claude-haiku-4-5", "power_level": "balanced", "user_tier": "professional"}
    status, made = terminal.paste(
        send("POST", "/api/v1/admin/llm/routing-rules", ADMIN, rule | {"task_type": "general", "priority": 10})
    )
    assert status == 201
    assert listed(terminal, get("/api/v1/admin/llm/routing-rules?user_tier=professional", ADMIN)) == [made]
    config = {"name": "main", "is_tenant_default": True, "primary_model": "anthropic/claude-haiku-4-5"}
    status, made = terminal.paste(send("POST", "/api/v1/llm/configs", TENANT, config))
    assert status == 201
    assert {name: made[name] for name in config} == config
    assert listed(terminal, TENANTS_LISTS[3]) == [made]


def without_a_key_explain_says_what_is_missing(terminal: Terminal) -> None:
    line = send("POST", "/api/v1/llm/routing/explain", TENANT, {"model": "balanced"})
    answer = live(terminal, line, lambda status, found: bool(found["rejections"]))
    assert (answer["chosen"], answer["error"]["code"]) == (None, "no_credential")
    assert [(one["model"], one["code"]) for one in answer["rejections"]] == [
        ("anthropic/claude-haiku-4-5", "no_credential")
    ]


def with_a_platform_key_it_is_healthy_and_answers_and_the_bill_is_exact(terminal: Terminal, fake: FakeProvider) -> None:
    provider = "/api/v1/admin/llm/providers/1"
    status, _ = terminal.paste(send("PATCH", provider, ADMIN, {"base_url": fake.base_url}))
    assert status == 200
    key = {"name": "main", "api_key": "sk-platform-0123456789", "weight": 100}
    status, added = terminal.paste(send("POST", f"{provider}/credentials", ADMIN, key))
    assert (status, added["is_validated"], added["key"]) == (201, True, "sk-p…6789")
    status, tested = terminal.paste(send("POST", f"{provider}/test", ADMIN, {}))
    assert (status, tested["ok"]) == (200, True)
    status, health = terminal.paste(HEALTH)
    assert (health["status"], health["message"]) == ("healthy", tested["message"])

    ask = {"messages": [{"role": "user", "content": "Hello"}]}
    answer = live(terminal, send("POST", "/v1/chat/completions", TENANT, ask), lambda status, _: status == 200)
    (sold,) = fake.bill()
    assert Decimal(str(answer["usage"]["cost"])) == (sold.prompt_tokens + 5 * sold.completion_tokens) / Decimal(10**6)
    status, usage = terminal.paste(get("/api/v1/llm/usage"))
    assert [row["model"] for row in usage["results"]] == ["anthropic/claude-haiku-4-5"]
