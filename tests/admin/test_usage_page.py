"""The usage page: exact figures over rolled and live days, and every number leads to a list with as many rows."""

import html
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from billing import rollup
from billing.breakdown import COLUMNS
from billing.models import Adjustment, RolledDay, UsageRecord
from tenants.models import Tenant
from tests import cast
from tests.admin import rows
from tollgate.admin import period

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)  # in Auckland it is the second already
OLD, LATE = rows.NOW.date() - timedelta(days=9), rows.NOW.date()
SPAN = {"span": "custom", "from": str(OLD), "to": str(LATE)}


@pytest.fixture
def used(acme: Tenant, globex: Tenant) -> None:
    """A rolled-up day and a live one, each with the same four requests of two tenants; an adjustment on the old day."""
    ada = cast.make_member(acme)
    for day in (OLD, LATE):
        at = {"billing_day": day, "created_at": datetime.combine(day, datetime.min.time(), tzinfo=UTC)}
        rows.usage(acme, user_id=str(ada.pk), latency_ms=460, ttft_ms=70, **at)
        rows.usage(acme, status="failed", status_code=502, latency_ms=9_000, ttft_ms=None, **at)
        rows.usage(acme, provider_slug="xai", model_name="grok", power_level="", used_byok=True, **at)
        rows.usage(globex, user_id=rows.HOSTILE, status="cancelled", status_code=499, cost_total_usd=Decimal(1), **at)
    Adjustment.objects.create(
        tenant=acme, kind="staff", cost_total_usd=Decimal("-0.5"), reason="x", author="grace", billing_day=OLD,
        created_at=rows.NOW, provider_slug="openai", model_name="gpt-4o",
    )  # fmt: skip
    rollup.roll_up_day(day=OLD, now=rows.NOW)
    assert list(RolledDay.objects.values_list("pk", flat=True)) == [OLD]


def page(browser: Client, **given: str) -> str:
    answer = browser.get(reverse("admin:usage"), {**SPAN, **given})
    assert answer.status_code == 200
    return answer.content.decode()


def table(text: str) -> dict[str, list[str]]:
    """The breakdown: cells as text, by the row's name. The last row is `All`."""
    body = text[text.index('id="breakdown"') :]
    found = {}
    for row in re.findall(r"<tr><th scope=\"row\">(.*?)</tr>", body[: body.index("</table>")], re.DOTALL):
        name, *cells = re.split(r"</th>|<td class=\"tg-num\">", row)
        plain = [html.unescape(re.sub(r"<[^>]+>", "", cell)) for cell in cells]
        found[html.unescape(re.sub(r"<span.*|<[^>]+>", "", name))] = plain[1:] if not plain[0] else plain
    return found


def test_the_figures_of_rolled_and_live_days_are_exact(browser: Client, used: None) -> None:
    shown = table(page(browser, by="tenant"))
    # 6 requests at $0.0045, less the adjustment of $0.50; two failed.
    assert shown["acme"] == [
        "6", "2 (33.3 %)", "7,200", "-$0.4730", "$0.0297", "2 (33.3 %)", "900 ms", "9,700 ms", "75 ms", "245 ms",
    ]  # fmt: skip
    assert shown["globex"][:6] == ["2", "2 (100.0 %)", "2,400", "$2.00", "$0.009900", "0"]
    assert shown["All"][:6] == ["8", "4 (50.0 %)", "9,600", "$1.53", "$0.0396", "2 (25.0 %)"]


@pytest.mark.parametrize("by", COLUMNS)
def test_every_breakdown_sums_up_to_the_same(browser: Client, used: None, by: str) -> None:
    shown = table(page(browser, by=by))
    total = shown.pop("All")
    assert total[:4] == ["8", "4 (50.0 %)", "9,600", "$1.53"]
    assert sum(int(cells[0]) for cells in shown.values()) == 8
    assert sum(int(cells[1].split()[0]) for cells in shown.values()) == 4


@pytest.mark.parametrize("by", COLUMNS)
def test_every_number_leads_to_a_list_with_as_many_requests(browser: Client, used: None, by: str) -> None:
    text = page(browser, by=by)
    link = re.compile(
        rf'<a href="({reverse("admin:billing_usagerecord_changelist")}\?[^"]+)">([\d,]+)(?: \([\d.]+ %\))?</a>'
    )
    body = text[text.index('id="breakdown"') :]
    counted = 0
    for row in re.findall(r"<tr><th scope=\"row\">.*?</tr>", body[: body.index("</table>")], re.DOTALL):
        cells = row.split('<td class="tg-num">')[1:]
        for place in (0, 1, 5):  # requests, errors, own key: the columns that count rows
            found = link.match(cells[place])
            if found:
                listed = browser.get(html.unescape(found[1])).context["cl"].result_list
                assert len(listed) == int(found[2].replace(",", "")), found[0]
                counted += 1
    assert counted >= 4


def test_the_charts_numbers_lead_to_as_many_requests(browser: Client, used: None) -> None:
    text = page(browser)
    section = text[text.index("<h2>Requests and errors") :]
    links = re.findall(r'<td class="tg-num"><a href="([^"]+)">(\d+)</a>', section[: section.index("</section>")])
    assert sorted(number for _, number in links) == ["2"] * 4
    for url, number in links:
        assert len(browser.get(html.unescape(url)).context["cl"].result_list) == int(number)


def test_quiet_days_stay_in_the_charts_and_a_day_of_the_far_east_comes_when_it_has_something(
    browser: Client, acme: Tenant
) -> None:
    def days() -> list[str]:
        section = browser.get(reverse("admin:usage"), {"span": "7d"}).content.decode()
        section = section[section.index("<h2>Requests and errors") :]
        return re.findall(r'<th scope="row">(\S+)</th>', section[: section.index("</section>")])

    with time_machine.travel(NOON, tick=False):
        assert days() == ["2026-03-01", *(f"2026-02-{day}" for day in range(28, 22, -1))]
        rows.usage(acme, billing_day=NOON.date() + timedelta(days=1), created_at=NOON)
        assert days()[:2] == ["2026-03-02", "2026-03-01"]


def test_a_members_name_is_shown_and_other_users_are_inert(browser: Client, used: None) -> None:
    text = page(browser, by="user")
    assert {"ada", "no user", rows.HOSTILE} < set(table(text))
    assert rows.HOSTILE not in text


def test_one_tenants_usage_is_that_tenants_alone(browser: Client, used: None) -> None:
    shown = table(page(browser, by="model", tenant="acme"))
    assert shown.pop("All")[0] == "6"
    assert {name: cells[0] for name, cells in shown.items()} == {"gpt-4o": "4", "grok": "2"}


def test_the_filter_is_carried_by_every_link_of_the_page(browser: Client, used: None) -> None:
    text = page(browser, by="model", tenant="acme")
    own = [html.unescape(url) for url in re.findall(r'href="(/admin/usage/\?[^"]+)"', text)]
    assert len(own) >= 11
    assert all("tenant=acme" in url for url in own)
    assert all(("span=custom" in url) == (f"from={OLD}" in url) for url in own)
    behind = re.findall(rf'href="({reverse("admin:billing_usagerecord_changelist")}\?[^"]+)"', text)
    acme = Tenant.objects.get(slug="acme").pk
    assert behind
    assert all(f"tenant={acme}" in url and "billing_day_from=" in url for url in behind)


def test_adjustments_are_named_and_linked(browser: Client, used: None) -> None:
    assert "adjustments of -$0.50" in page(browser)
    assert "adjustments of" not in page(browser, tenant="globex")


@pytest.mark.parametrize("by", COLUMNS)
def test_it_opens_in_at_most_20_queries_however_much_there_is(
    browser: Client, used: None, django_assert_max_num_queries: Callable[..., Any], by: str
) -> None:
    for number in range(8):
        tenant = cast.make_tenant(f"tenant-{number}")
        rows.usage(tenant, provider_slug=f"vendor-{number}", user_id=f"user-{number}")
        rows.window("tenant", tenant.pk, "month", timezone.now().date().replace(day=1), "9")
    page(browser, by=by)
    with django_assert_max_num_queries(20):
        page(browser, by=by)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"span": "aeon"}, "span is one of: today, 7d, 30d, month, last-month, custom"),
        ({"by": "model; DROP TABLE"}, "by is one of: day, tenant, provider, model, user, power_level"),
        ({"from": "yesterday"}, "from is a day such as 2026-11-22"),
        ({"to": "2020-01-01"}, "to is before from"),
        ({"from": "2020-01-01"}, "At most 400 days at once"),
        ({"from": "0001-01-01", "to": "9999-12-31"}, "At most 400 days at once"),
        ({"tenant": rows.HOSTILE}, "Choose one of the list; shown are all"),
    ],
)
def test_what_cannot_be_followed_is_said_by_name_and_the_page_opens(
    browser: Client, used: None, given: dict[str, str], said: str
) -> None:
    text = page(browser, **given)
    assert said in html.unescape(text)
    assert rows.HOSTILE not in text


def test_only_who_may_read_the_request_log_may_read_it(client: Client, nobody: Client, used: None) -> None:
    assert nobody.get(reverse("admin:usage")).status_code == 403
    reader = User.objects.create_user("rita", is_staff=True)
    reader.user_permissions.add(Permission.objects.get(codename="view_usagerecord"))
    client.force_login(reader)
    assert client.get(reverse("admin:usage")).status_code == 200


def test_a_gateway_without_requests_says_so(browser: Client) -> None:
    text = browser.get(reverse("admin:usage")).content.decode()
    assert "No requests in these days." in text
    assert UsageRecord.objects.count() == 0


@pytest.mark.parametrize(
    ("span", "start", "end"),
    [
        ("today", "2026-03-01", "2026-03-01"),
        ("7d", "2026-02-23", "2026-03-02"),
        ("30d", "2026-01-31", "2026-03-02"),
        ("month", "2026-03-01", "2026-03-02"),
        ("last-month", "2026-02-01", "2026-02-28"),
    ],
)
def test_the_spans_are_billing_days(span: str, start: str, end: str) -> None:
    found = period.asked({"span": span}, now=NOON)
    assert (str(found.start), str(found.end), found.problems) == (start, end, {})
