"""A price's way through the review queue in a real browser: one person proposes, another decides."""

from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from playwright.sync_api import Page, expect

from llm.catalog import prices
from llm.models import LLMModel, PriceProposal
from tenants import audit
from tests import cast
from tests.admin import rows
from tests.browser import staff
from tests.conftest import Gateway


@pytest.fixture
def queue(gateway: Gateway) -> LLMModel:
    """Grace proposed a price for a model that Acme uses; Hedy is to look at it."""
    grace, _ = (User.objects.create_superuser(name, password="hopper") for name in ("grace", "hedy"))
    model = cast.make_model(cast.make_provider("openai"), "gpt-4o")
    now = timezone.now()
    for number in range(3):
        rows.usage(cast.make_tenant(f"acme-{number}"), model, billing_day=now.date(), created_at=now)
    components = prices.flat(input_usd=Decimal(3), output_usd=Decimal(12), cached_usd=None)
    change = prices.PriceChange(
        components=components, second_person=True, person_id=grace.pk, reason="the vendor's list"
    )
    actor = audit.Actor(kind="user", label="grace")
    prices.set_price(model=model, change=change, actor=actor, now=timezone.now())
    return model


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_price_is_looked_at_and_approved_by_a_second_person(page: Page, queue: LLMModel, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    staff.log_in(page, "hedy", "hopper")
    expect(page.get_by_role("link", name="Price proposals to decide")).to_be_visible()
    staff.go(page, "Price proposals")
    row = page.locator("#result_list tbody tr")
    expect(row).to_contain_text("input $2.50 → $3.00")
    expect(row).to_contain_text("+20 %")
    expect(row).to_contain_text("+$0.0027")  # three requests of 1,000 and 200 tokens
    staff.open_row(page, "openai/gpt-4o")
    expect(page.get_by_role("cell", name="acme-1")).to_be_visible()
    page.get_by_role("link", name="Approve").click()
    page.locator("[name=reason]").fill("it is on the vendor's page")
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_text("1 approved.")).to_be_visible()
    assert PriceProposal.objects.get().decider == "hedy"


def test_who_proposed_it_is_told_that_somebody_else_decides(page: Page, queue: LLMModel) -> None:
    staff.log_in(page, "grace", "hopper")
    staff.go(page, "Price proposals")
    page.locator("#result_list tbody input[type=checkbox]").first.check()
    page.locator("select[name=action]").select_option("approve_selected")
    page.get_by_role("button", name="Run").click()
    page.locator("[name=reason]").fill("mine")
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_text("a second person decides on it")).to_be_visible()
    assert PriceProposal.objects.get().state == "pending"
