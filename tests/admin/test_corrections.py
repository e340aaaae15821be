"""Correction runs in the admin: started from a model or a price, read by tenant, decided by a second person."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from billing.models import Adjustment, UsageRecord
from llm.models import CorrectionRun, LLMModel, PriceVersion
from tenants.models import Tenant
from tests import cast
from tests.admin import rows
from tests.admin.test_catalog import post
from tests.admin.test_prices import page_of
from tollgate import roles

LIST = "admin:llm_correctionrun_changelist"


@pytest.fixture
def billed(gpt: LLMModel, acme: Tenant) -> UsageRecord:
    """1,000 and 200 tokens at $2.50 and $10, with a markup of ten percent, an hour ago."""
    at = timezone.now() - timedelta(hours=1)
    return rows.usage(acme, gpt, created_at=at, billing_day=at.date(), terms={"markup_percent": "10"},
                      price_version_id=PriceVersion.objects.get(model=gpt).pk)  # fmt: skip


def form(**more: str) -> dict[str, str]:
    since = f"{timezone.now() - timedelta(days=1):%Y-%m-%dT%H:%M}"
    rows_of = {
        "more-TOTAL_FORMS": "1",
        "more-INITIAL_FORMS": "0",
        "more-0-meter": "",
    }
    return rows_of | {"input_usd": "1.25", "output_usd": "5", "since": since, "reason": rows.HOSTILE} | more


def url(verb: str, run: CorrectionRun) -> str:
    return reverse(f"admin:llm_correctionrun_{verb}_one", args=(run.pk,))


def test_one_is_started_from_a_model_approved_by_another_and_leads_to_its_adjustments(
    browser: Client, client: Client, superuser: User, gpt: LLMModel, billed: UsageRecord
) -> None:
    start = reverse("admin:llm_llmmodel_correct", args=(gpt.pk,))
    assert "Nothing in the past is edited" in page_of(browser, start)
    assert "more than 5x" in post(browser, start, **form(input_usd="0.1")).content.decode()
    assert "needs no correction" in post(browser, start, **form(until="2999-01-01T00:00")).content.decode()
    assert CorrectionRun.objects.count() == 0
    assert post(browser, start, **form()).status_code == 302
    run = CorrectionRun.objects.get()
    assert (run.state, run.affected, run.proposed_by) == ("pending", 1, superuser)
    for page in (
        page_of(browser, reverse(LIST)),
        page_of(browser, reverse("admin:llm_correctionrun_change", args=(run.pk,))),
    ):
        assert rows.HOSTILE not in page
        for words in ("openai/gpt-4o", "pending", "1 to correct", "-$0.002475", "list price -$0.00225"):
            assert words in page, words
    assert "a second person decides" in post(browser, url("approve", run), reason="mine").content.decode()
    client.force_login(cast.make_staff("vera", superuser=False, permissions=("llm.view_correctionrun",))[0])
    assert "openai/gpt-4o" in page_of(client, reverse(LIST))
    for verb in ("approve", "reject", "cancel", "work_out"):
        assert client.post(url(verb, run), {"reason": "x"}).status_code == 403
    roles.ensure_roles()
    bob = cast.make_staff("bob", superuser=False)[0]
    bob.groups.add(Group.objects.get(name="Price approvers"))
    client.force_login(bob)
    assert client.post(url("approve", run), {"reason": "seen"}).status_code == 302
    assert Adjustment.objects.get().billed_usd == Decimal("-0.002475")
    page = page_of(client, reverse("admin:llm_correctionrun_change", args=(run.pk,)))
    found = f"{reverse('admin:billing_adjustment_changelist')}?correction_id={run.pk}"
    assert found in page
    assert url("approve", run) not in page
    assert "-$0.002475" in page_of(client, found)
    of_request = page_of(browser, reverse("admin:billing_usagerecord_change", args=(billed.pk,)))
    assert "-$0.002475" in of_request
    assert rows.HOSTILE not in of_request


def test_one_of_a_price_is_worked_out_again_or_cancelled(browser: Client, gpt: LLMModel, billed: UsageRecord) -> None:
    version = PriceVersion.objects.get(model=gpt)
    start = reverse("admin:llm_priceversion_correct", args=(version.pk,))
    assert f"{version.effective_from:%Y-%m-%dT%H:%M}" in page_of(browser, start)
    assert post(browser, start, **form()).status_code == 302
    run = CorrectionRun.objects.get()
    assert (run.price_version_id, run.affected) == (version.pk, 1)
    rows.usage(Tenant.objects.get(), gpt, created_at=billed.created_at, billing_day=billed.billing_day,
               terms={"markup_percent": "10"}, price_version_id=version.pk)  # fmt: skip
    assert browser.post(url("work_out", run)).status_code == 302
    run.refresh_from_db()
    assert run.affected == 2
    assert browser.post(url("cancel", run), {"reason": "typo"}).status_code == 302
    run.refresh_from_db()
    assert (run.state, run.decision_reason) == ("cancelled", "typo")
    assert "already by grace" in browser.post(url("approve", run), {"reason": "x"}).content.decode()
    assert Adjustment.objects.count() == 0
