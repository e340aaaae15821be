"""Staff's whole day in a real browser: a vendor, its key, a model, a price, a rule, and what goes through them."""

import time
from decimal import Decimal
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

from llm.models import LLMModel, LLMProvider
from tenants.models import AuditEvent
from tests import cast
from tests.browser import staff
from tests.conftest import Gateway
from tests.fakes import FakeProvider

SECRET = "sk-vendor-0123456789abcdefghijkl"
LIVE_WITHIN_S = 10


@pytest.fixture
def grace(gateway: Gateway) -> User:
    """Staff, a tenant and the power levels, on a catalog that is otherwise empty."""
    cast.make_power_levels()
    cast.make_tenant("acme")
    return User.objects.create_superuser("grace", password="hopper")


def ask(gateway: Gateway, key: str, model: str = "auto") -> httpx.Response:
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 50}
    return httpx.post(
        f"{gateway.url}/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {key}"}, timeout=30
    )


def ask_until(gateway: Gateway, key: str, used: str, model: str = "auto") -> httpx.Response:
    """Ask until `used` answers: an edit is live within two seconds, and the machine may be busy."""
    until = time.monotonic() + LIVE_WITHIN_S
    while True:
        answer = ask(gateway, key, model)
        if answer.headers.get("x-model-used") in {used, used.partition("/")[2]} or time.monotonic() > until:
            return answer
        time.sleep(0.25)


def stock(page: Page, fake: FakeProvider) -> None:
    """Provider, key, two models with prices, a rule: all by hand."""
    staff.add_provider(page, "vendor", fake.base_url, SECRET)
    for model_id, input_usd, output_usd in (("model-one", "2", "8"), ("model-two", "3", "9")):
        staff.add_model(page, "vendor", model_id)
        staff.set_price(page, f"vendor/{model_id}", input_usd=input_usd, output_usd=output_usd)
    staff.add_rule(page, "vendor/model-one")


def test_staff_stock_the_catalog_and_every_step_is_audited(page: Page, grace: User, fake: FakeProvider) -> None:
    fake.expected_key = SECRET
    staff.log_in(page, "grace", "hopper")
    stock(page, fake)
    staff.probe(page, "vendor")
    expect(page.get_by_text("vendor is healthy. It answered 200")).to_be_visible()
    assert SECRET not in page.content()
    staff.go(page, "Rules")
    staff.open_row(page, "balanced" if page.get_by_role("link", name="balanced").count() else "Balanced")
    expect(page.get_by_text("1 active: 0 free, 0 starter, 1 professional, 0 enterprise.")).to_be_visible()
    expect(page.get_by_text("never reached")).to_have_count(0)
    secret = staff.issue_key(page, "acme")
    assert secret.startswith("tg_live_")
    staff.deprecate(page, "vendor/model-one", replacement="vendor/model-two")
    staff.go(page, "Audit log")
    for verb in ("deprecate", "issue", "create"):
        expect(page.locator("#result_list").get_by_text(verb, exact=True).first).to_be_visible()
    assert LLMProvider.objects.get(slug="vendor").credentials.get().open().reveal() == SECRET
    assert LLMModel.objects.get(model_id="model-one").replacement_model == LLMModel.objects.get(model_id="model-two")
    assert {event.actor_label for event in AuditEvent.objects.all()} == {"grace"}


def test_a_completion_goes_through_what_staff_made_and_follows_the_replacement(
    page: Page, grace: User, gateway: Gateway, fake: FakeProvider
) -> None:
    fake.expected_key = SECRET
    staff.log_in(page, "grace", "hopper")
    stock(page, fake)
    key = staff.issue_key(page, "acme")
    answer = ask_until(gateway, key, "vendor/model-one")
    assert answer.status_code == 200, answer.text
    billed = fake.totals("model-one")
    cost = Decimal(billed.prompt_tokens * 2 + billed.completion_tokens * 8) / 1_000_000

    staff.open_request(page, answer.headers["x-request-id"])
    expect(page.get_by_text("Provider's list price")).to_be_visible()
    shown = page.content()
    assert f"${cost.normalize():f}" in shown
    assert f"{billed.prompt_tokens:,}" in shown
    expect(page.locator(".tg-trace").get_by_text("vendor/model-one").first).to_be_visible()

    staff.deprecate(page, "vendor/model-one", replacement="vendor/model-two")
    followed = ask_until(gateway, key, "vendor/model-two", model="vendor/model-one")
    assert followed.status_code == 200, followed.text
    assert fake.totals("model-two").requests >= 1
    staff.open_request(page, followed.headers["x-request-id"])
    expect(page.locator(".tg-trace").get_by_text("vendor/model-two").first).to_be_visible()
    expect(page.locator(".tg-trace").get_by_text("deprecated").first).to_be_visible()
    staff.go(page, "Dashboard")
    expect(page.get_by_text("Spend today")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_dashboard_works_by_keyboard_in_both_schemes(page: Page, grace: User, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    staff.log_in(page, "grace", "hopper")
    expect(page.locator("html")).to_have_class("dark" if scheme == "dark" else "")
    summary = page.get_by_text("As a table")
    summary.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("columnheader", name="Tokens")).to_be_visible()
    page.locator(".tg-figure").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/admin/billing/usagerecord/?billing_day_from=*")
