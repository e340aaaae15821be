"""The usage page and the health board in a real browser: the filter, by mouse and by keyboard, in both schemes."""

from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

from tests import cast
from tests.admin import rows
from tests.browser import staff
from tests.conftest import Gateway


@pytest.fixture
def grace(gateway: Gateway) -> User:
    """Staff, and three requests of today by two tenants."""
    now = datetime.now(UTC)
    for slug, number in (("acme", 2), ("globex", 1)):
        tenant = cast.make_tenant(slug)
        for _ in range(number):
            rows.usage(tenant, billing_day=now.date(), created_at=now)
    cast.make_provider("openai")
    return User.objects.create_superuser("grace", password="hopper")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_usage_is_filtered_and_broken_down_by_keyboard(page: Page, grace: User, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    staff.log_in(page, "grace", "hopper")
    staff.go(page, "Usage")
    page.get_by_role("link", name="Today", exact=True).press("Enter")
    page.wait_for_url("**span=today**")
    page.get_by_role("link", name="Tenant", exact=True).press("Enter")
    page.wait_for_url("**by=tenant**")
    expect(page.get_by_role("link", name="Today", exact=True)).to_have_attribute("aria-current", "page")
    table = page.get_by_role("region", name="Usage by tenant")
    expect(table.get_by_role("rowheader", name="acme")).to_be_visible()
    assert page.locator("canvas.chart").count() == 4
    drawn = "() => document.querySelectorAll('canvas.chart').length === Object.keys(Chart.instances).length"
    page.wait_for_function(drawn)

    page.get_by_label("Tenant", exact=True).fill("globex")
    page.get_by_label("Tenant", exact=True).press("Enter")
    page.wait_for_url("**tenant=globex**")
    expect(page.get_by_role("heading", name="Usage of globex")).to_be_visible()
    expect(table.get_by_role("rowheader", name="acme")).to_have_count(0)
    page.get_by_text("As a table").first.press("Enter")
    expect(page.get_by_role("region", name="Spend by provider, as a table")).to_be_visible()
    table.get_by_role("link", name="1", exact=True).first.press("Enter")
    page.wait_for_url("**/billing/usagerecord/**")
    expect(page.locator("#result_list tbody tr")).to_have_count(1)


def test_the_health_board_fits_a_telephone(page: Page, grace: User) -> None:
    staff.log_in(page, "grace", "hopper")
    page.set_viewport_size({"width": 420, "height": 900})
    page.goto("/admin/health/")
    expect(page.get_by_role("button", name="Probe Openai now")).to_be_visible()
    for url in ("/admin/health/", "/admin/usage/", "/admin/"):
        page.goto(url)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), url
