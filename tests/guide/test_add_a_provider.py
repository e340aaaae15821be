"""docs/add-a-provider.md, followed word for word: in the admin, and pasted into a shell. Only the addresses differ."""

import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from llm.models import LLMModel, LLMProvider
from llm.providers import openai, openai_completions, openai_embeddings
from tests.fakes import FakeProvider
from tests.guide.terminal import ROOT, Gateway, Terminal, commands
from tests.guide.test_requests import live

PAGE = (ROOT / "docs" / "add-a-provider.md").read_text()
VENDOR = "https://api.example.com/v1"
SECRET = "sk-example-0123456789"
KEYS = """
import json
from tests import cast
print(json.dumps({"STAFF_KEY": cast.make_staff()[1], "KEY": cast.make_key(cast.make_tenant())[1]}))
"""


def tables(heading: str) -> list[list[list[str]]]:
    """The tables under a heading: their rows, their cells, without the head."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = []
    for block in re.findall(r"(?:^ *\|.*\n)+", section, re.MULTILINE):
        rows = [[cell.strip() for cell in line.strip().strip("|").split(" | ")] for line in block.splitlines()]
        found.append(rows[2:])
    return found


# In the admin


def filled(browser: Client, url: str, rows: list[list[str]], put: Callable[[str], str]) -> dict[str, Any]:
    """The form of a page as a browser sends it, with the fields of a table filled in by their labels."""
    context = browser.get(url).context
    forms = [context["adminform"].form]
    values: dict[str, Any] = {}
    for inline in context.get("inline_admin_formsets") or []:
        forms += [inline.formset.management_form, inline.formset.empty_form]
    labels: dict[str, str] = {}
    for form in forms:
        for field in form:
            name = field.html_name.replace("__prefix__", "0")
            labels.setdefault(str(field.label), name)
            value = field.value()
            if value is True:
                values[name] = "on"
            elif value is not None and value is not False:
                values[name] = value
    for label, said in rows:
        name = labels[label]
        values[name] = "on" if said == "yes" else put(said.strip("`"))
        if name.startswith("credentials-0-"):
            values["credentials-TOTAL_FORMS"] = "1"
    return values


@pytest.mark.django_db
def test_the_steps_in_the_admin_make_a_vendor_that_answers_the_test(fake: FakeProvider) -> None:
    browser = Client()
    browser.force_login(User.objects.create_superuser("grace", password="hopper"))
    about_provider, about_model = tables("In the admin")

    url = reverse("admin:llm_llmprovider_add")
    form = filled(browser, url, about_provider, lambda said: said.replace(VENDOR, fake.base_url))
    assert browser.post(url, form).status_code == 302
    provider = LLMProvider.objects.get(slug="example")
    assert (provider.name, provider.dialect, provider.auth_type) == ("example", "openai", "bearer")
    assert provider.quirks == {"token_cap_field": "max_completion_tokens"}
    assert provider.credentials.get().open().reveal() == SECRET

    test = reverse("admin:llm_llmprovider_test", args=(provider.pk,))
    assert "healthy" in browser.post(test, follow=True).content.decode()
    assert [(one.method, one.path) for one in fake.requests] == [("GET", "/v1/models")]
    assert fake.requests[0].headers["authorization"] == f"Bearer {SECRET}"

    url = reverse("admin:llm_llmmodel_add")
    form = filled(
        browser, url, about_model, lambda said: said.replace("example", str(provider.pk)) if said == "example" else said
    )
    assert browser.post(url, form).status_code == 302
    model = LLMModel.objects.get(model_id="example-large")
    assert (model.reference, model.context_window) == ("example/example-large", 128_000)
    assert (model.input_cost_per_1k, model.output_cost_per_1k) == (Decimal("0.002"), Decimal("0.008"))


# By the API


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """Two keys, and nothing in the catalog."""
    with Gateway() as gateway:
        keys = gateway.shell(KEYS)
        yield Terminal(gateway.serve(), tmp_path, keys)


def test_the_lines_for_the_api_make_a_vendor_that_answers(terminal: Terminal, fake: FakeProvider) -> None:
    lines = [line.replace("\n```", "").replace(VENDOR, fake.base_url) for line in commands(PAGE)]
    lines = [line.split("\n\n")[0] for line in lines]
    provider, key, test, model, ask, change = lines

    status, made = terminal.paste(provider)
    assert (status, made["slug"], made["quirks"]) == (201, "example", {"token_cap_field": "max_completion_tokens"})
    status, stored = terminal.paste(key)
    assert (status, stored["is_validated"]) == (201, True)
    status, tested = terminal.paste(test)
    assert (status, tested["ok"]) == (200, True)
    status, priced = terminal.paste(model)
    assert (status, priced["reference"], priced["input_cost_per_1k"]) == (201, "example/example-large", "0.002")

    answer = live(terminal, ask, lambda status, _: status == 200)
    [sold] = fake.bill()
    assert Decimal(str(answer["usage"]["cost"])) == (2 * sold.prompt_tokens + 8 * sold.completion_tokens) / Decimal(
        10**6
    )
    body = fake.requests[-1].body
    assert body == {
        "model": "example-large", "messages": [{"role": "user", "content": "Hello"}], "max_completion_tokens": 50,
    }  # fmt: skip

    status, changed = terminal.paste(change)
    assert status == 200
    quirks = {"reasoning_request": "thinking", "renamed_params": {"seed": "random_seed"}}
    assert changed["quirks"] == quirks
    thoughtful = ask.replace('"max_tokens": 50', '"max_tokens": 50, "seed": 7, "reasoning_effort": "none"')

    def as_changed(status: int, _: Any) -> bool:
        return status == 200 and "random_seed" in fake.requests[-1].body

    live(terminal, thoughtful, as_changed)
    assert fake.requests[-1].body == {
        "model": "example-large",
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 50,
        "random_seed": 7,
        "thinking": {"type": "disabled"},
    }


# The tables of quirks


def test_every_quirk_of_the_dialect_is_on_the_page_and_none_other() -> None:
    explained = {name.strip("`") for name, *_ in tables("Quirks")[0]}
    told = set()
    for module in (openai, openai_completions, openai_embeddings):
        told |= set(re.findall(r"^    ([a-z_0-9]+)  +\S", str(module.__doc__), re.MULTILINE))
    elsewhere = {
        "reasoning_outside_completion", "first_event_timeout_s", "model_info", "legacy_completions", "max_searches",
    }  # fmt: skip
    assert explained == told | elsewhere
