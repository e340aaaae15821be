"""Prices in the admin: the review queue, the book, the queue of what is left undone, and the band."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from llm.catalog import price_tasks, prices
from llm.models import LLMModel, PricePolicy, PriceProposal, PriceTask, PriceVersion, RouteRefusal
from tenants import audit
from tenants.models import AuditEvent, Tenant
from tests import cast
from tests.admin import rows
from tests.admin.test_catalog import post
from tollgate import roles

QUEUE = "admin:llm_priceproposal_changelist"
TASKS = "admin:llm_pricetask_changelist"


@pytest.fixture
def ada(db: None) -> User:
    return cast.make_staff("ada", superuser=False)[0]


def propose(model: LLMModel, person: User | None, usd: str = "3", **rest: Any) -> PriceProposal:
    components = prices.flat(input_usd=Decimal(usd), output_usd=Decimal(10), cached_usd=None)
    change = prices.PriceChange(
        components=components, second_person=True, person_id=person and person.pk, reason=rows.HOSTILE, **rest
    )
    actor = audit.Actor(kind="user", label=person.username if person else rows.HOSTILE)
    return prices.set_price(model=model, change=change, actor=actor, now=timezone.now()).proposal


def page_of(client: Client, url: str, **query: str) -> str:
    answer = client.get(url, query)
    assert answer.status_code == 200
    return str(answer.content.decode())


def states() -> list[str]:
    return list(PriceProposal.objects.order_by("id").values_list("state", flat=True))


def test_a_proposal_reads_with_its_change_and_the_traffic_it_is_for(
    browser: Client, gpt: LLMModel, acme: Tenant, ada: User
) -> None:
    rows.usage(acme, gpt, created_at=timezone.now() - timedelta(days=1), billing_day=timezone.now().date())
    row = propose(gpt, ada)
    for url in (reverse(QUEUE), reverse("admin:llm_priceproposal_change", args=(row.pk,))):
        page = page_of(browser, url)
        assert rows.HOSTILE not in page
        for words in ("openai/gpt-4o", "+20 %", "$3.00", "ada"):
            assert words in page, words
    # 1,000 input tokens at $3 instead of $2.50, 200 output tokens as before.
    for words in ("$0.0045", "$0.005", "$0.0005", "acme", "1 requests from"):
        assert words in page, words


def test_one_is_approved_on_a_page_of_its_own(browser: Client, gpt: LLMModel, ada: User) -> None:
    row = propose(gpt, ada)
    url = reverse("admin:llm_priceproposal_approve_one", args=(row.pk,))
    assert "is required" in post(browser, url).content.decode()
    assert states() == ["pending"]
    assert post(browser, url, reason="the list").status_code == 302
    assert (states(), PriceVersion.objects.get(number=2).status) == (["approved"], "active")
    page = page_of(browser, reverse("admin:llm_priceproposal_change", args=(row.pk,)))
    assert "the list" in page
    assert reverse("admin:llm_priceproposal_reject_one", args=(row.pk,)) not in page
    history = page_of(browser, reverse("admin:llm_priceproposal_history", args=(row.pk,)))
    assert "approve" in history


def test_five_times_asks_again_and_a_moment_can_be_chosen(browser: Client, gpt: LLMModel, ada: User) -> None:
    row = propose(gpt, ada, "30", confirm=True)
    url = reverse("admin:llm_priceproposal_approve_one", args=(row.pk,))
    later = timezone.now() + timedelta(days=2)
    moment = {"effective_from": f"{later:%Y-%m-%dT%H:%M}", "reason": "meant"}
    assert "more than 5x" in post(browser, url, **moment).content.decode()
    assert post(browser, url, **moment, confirm="on").status_code == 302
    assert f"{PriceVersion.objects.get(number=2).effective_from:%Y-%m-%dT%H:%M}" == moment["effective_from"]
    assert post(browser, url, reason="again").status_code == 200
    assert PriceVersion.objects.get(number=2).status == "approved"


@pytest.mark.parametrize(("action", "state"), [("approve_selected", "approved"), ("reject_selected", "rejected")])
def test_many_are_decided_at_once(browser: Client, gpt: LLMModel, ada: User, action: str, state: str) -> None:
    chosen = [propose(gpt, ada), propose(cast.make_model(gpt.provider, "mini"), ada)]
    bulk = {"action": action, "_selected_action": [str(row.pk) for row in chosen]}
    assert "openai/mini" in browser.post(reverse(QUEUE), bulk).content.decode()
    assert states() == ["pending", "pending"]
    assert browser.post(reverse(QUEUE), {**bulk, "_apply": "1", "reason": "looked"}).status_code == 302
    assert states() == [state, state]
    assert AuditEvent.objects.filter(reason="looked", object_type="llm.PriceProposal").count() == 2


def test_the_proposer_is_refused_in_the_browser(browser: Client, superuser: User, gpt: LLMModel) -> None:
    row = propose(gpt, superuser)
    url = reverse("admin:llm_priceproposal_approve_one", args=(row.pk,))
    assert "a second person decides" in post(browser, url, reason="mine").content.decode()
    bulk = {"action": "approve_selected", "_selected_action": [str(row.pk)], "_apply": "1", "reason": "mine"}
    assert "a second person decides" in browser.post(reverse(QUEUE), bulk).content.decode()
    assert states() == ["pending"]


def test_who_may_only_look_decides_nothing(client: Client, gpt: LLMModel, ada: User) -> None:
    row = propose(gpt, None)
    client.force_login(cast.make_staff("vera", superuser=False, permissions=("llm.view_priceproposal",))[0])
    assert "openai/gpt-4o" in page_of(client, reverse(QUEUE))
    for verb in ("approve", "reject"):
        url = reverse(f"admin:llm_priceproposal_{verb}_one", args=(row.pk,))
        assert client.post(url, {"reason": "x"}).status_code == 403
        bulk = {"action": f"{verb}_selected", "_selected_action": [str(row.pk)], "_apply": "1", "reason": "x"}
        client.post(reverse(QUEUE), bulk)
    assert states() == ["pending"]


def test_the_group_of_approvers_may_decide_and_set_the_band(client: Client, gpt: LLMModel, ada: User) -> None:
    assert roles.ensure_roles() == ["Price approvers"]
    assert roles.ensure_roles() == []
    bob = cast.make_staff("bob", superuser=False)[0]
    bob.groups.add(Group.objects.get(name="Price approvers"))
    client.force_login(bob)
    row = propose(gpt, ada)
    url = reverse("admin:llm_priceproposal_approve_one", args=(row.pk,))
    assert client.post(url, {"reason": "fine"}).status_code == 302
    assert states() == ["approved"]
    assert client.get(reverse("admin:llm_pricepolicy_changelist")).status_code == 302
    policy = reverse("admin:llm_pricepolicy_change", args=(1,))
    answer = post(client, policy, auto_approve_up_percent="5", change_reason="small ones")
    assert (answer.status_code, PricePolicy.objects.get().auto_approve_up_percent) == (302, 5)
    event = AuditEvent.objects.get(object_type="llm.PricePolicy")
    assert (event.reason, event.actor_label) == ("small ones", "bob")
    assert "less than or equal" in post(client, policy, auto_approve_up_percent="401").content.decode()


def test_the_queue_shows_what_waits_and_is_filtered_and_sorted(browser: Client, gpt: LLMModel, ada: User) -> None:
    mini = cast.make_model(gpt.provider, "mini", input="2.00")
    propose(gpt, ada)
    propose(mini, ada)
    propose(mini, ada, "1.9")  # overtakes the one before it
    waiting = page_of(browser, reverse(QUEUE))
    assert waiting.count("openai/mini") == 1
    assert page_of(browser, reverse(QUEUE), state="all").count("openai/mini") == 2
    by_percent = page_of(browser, reverse(QUEUE), o="3")
    assert by_percent.index("openai/mini") < by_percent.index("openai/gpt-4o")
    dear = page_of(browser, reverse(QUEUE), largest_percent_from="10")
    assert "openai/gpt-4o" in dear
    assert "openai/mini" not in dear


def test_a_draft_more_than_five_times_off_is_finished_when_it_is_confirmed(browser: Client, gpt: LLMModel) -> None:
    price = reverse("admin:llm_llmmodel_change_price", args=(gpt.pk,))
    assert post(browser, price, input_usd="25", reason="a new contract", draft="on").status_code == 302
    draft = PriceVersion.objects.get(number=2)
    book = reverse("admin:llm_priceversion_changelist")
    finish = {"action": "propose_selected", "_selected_action": [str(draft.pk)], "_apply": "1"}
    asked = browser.post(book, finish).content.decode()
    assert "more than 5x. Switch on “confirm” below if it is meant." in asked
    assert 'name="confirm"' in asked
    draft.refresh_from_db()
    assert draft.status == "draft"
    browser.post(book, finish | {"confirm": "on"})
    draft.refresh_from_db()
    assert draft.status == "active"


def test_a_scheduled_rise_is_cancelled_and_a_draft_finished_in_the_book(browser: Client, gpt: LLMModel) -> None:
    price = reverse("admin:llm_llmmodel_change_price", args=(gpt.pk,))
    later = f"{timezone.now() + timedelta(days=9):%Y-%m-%dT%H:%M}"
    assert post(browser, price, input_usd="3", reason="a rise", effective_from=later).status_code == 302
    assert post(browser, price, input_usd="3.3", reason="a thought", draft="on").status_code == 302
    book = reverse("admin:llm_priceversion_changelist")
    page = page_of(browser, book)
    for words in ("scheduled", "draft", "in force", "Input tokens: $3.30 per 1M"):
        assert words in page
    rise, draft = PriceVersion.objects.get(number=2), PriceVersion.objects.get(number=3)
    bulk = {"action": "cancel_selected", "_selected_action": [str(rise.pk)]}
    assert "Cancel these prices" in browser.post(book, bulk).content.decode()
    browser.post(book, {**bulk, "_apply": "1", "reason": "taken back"})
    browser.post(book, {"action": "propose_selected", "_selected_action": [str(draft.pk)], "_apply": "1"})
    assert [row.status for row in PriceVersion.objects.order_by("number")] == ["superseded", "cancelled", "active"]
    answer = browser.post(book, {**bulk, "_apply": "1"}, follow=True)
    assert "cancelled already" in answer.content.decode()


def test_a_scheduled_price_is_not_cancelled_by_who_may_not_approve(browser: Client, gpt: LLMModel) -> None:
    later = f"{timezone.now() + timedelta(days=9):%Y-%m-%dT%H:%M}"
    price = reverse("admin:llm_llmmodel_change_price", args=(gpt.pk,))
    post(browser, price, input_usd="3", reason="a rise", effective_from=later)
    rise = PriceVersion.objects.get(number=2)
    eve = Client()
    permissions = ("llm.view_priceversion", "llm.add_priceversion")
    eve.force_login(cast.make_staff("eve", superuser=False, permissions=permissions)[0])
    bulk = {"action": "cancel_selected", "_selected_action": [str(rise.pk)], "_apply": "1", "reason": "mine"}
    answer = eve.post(reverse("admin:llm_priceversion_changelist"), bulk, follow=True).content.decode()
    assert "only who may approve prices cancels it" in answer
    rise.refresh_from_db()
    assert rise.status == "approved"


def test_a_price_cannot_be_edited_or_deleted_in_the_admin(browser: Client, gpt: LLMModel) -> None:
    version = PriceVersion.objects.get()
    before = PriceVersion.objects.values().get()
    for page in ("change", "delete"):
        url = reverse(f"admin:llm_priceversion_{page}", args=(version.pk,))
        assert browser.post(url, {"post": "yes", "reason": "x"}).status_code == 403
    bulk = {"action": "delete_selected", "_selected_action": [str(version.pk)], "post": "yes"}
    browser.post(reverse("admin:llm_priceversion_changelist"), bulk)
    assert PriceVersion.objects.values().get() == before


# --- what is left undone ----------------------------------------------------------------------------------------------


def refuse(tenant: Tenant, model: LLMModel, code: str = "model_unpriced") -> None:
    decision = {"rejections": [{"model": model.reference, "code": "unpriced", "detail": "it has no price now"}]}
    RouteRefusal.objects.create(
        tenant_id=tenant.pk, model=model.reference, status_code=503, code=code, decision=decision,
        created_at=timezone.now(),
    )  # fmt: skip


def test_a_model_refused_for_want_of_a_price_is_queued_until_it_is_priced(
    browser: Client, superuser: User, gpt: LLMModel, acme: Tenant
) -> None:
    bare = cast.make_model(gpt.provider, "bare", input=None)
    cast.make_model(gpt.provider, "never-asked-for", input=None)
    now = timezone.now()
    PriceVersion.objects.update(confirmed_at=now)
    for _ in range(3):
        refuse(acme, bare)
    refuse(acme, gpt)  # it is priced by now
    RouteRefusal.objects.create(
        tenant_id=acme.pk, status_code=503, code="model_unpriced", decision={"rejections": [7]}, created_at=now
    )
    assert [price_tasks.refresh(now=now), price_tasks.refresh(now=now)] == [1, 1]
    task = PriceTask.objects.get()
    assert (task.kind, task.model, task.requests, task.state) == ("unpriced", bare, 3, "open")
    url = reverse(TASKS)
    assert "used but unpriced" in page_of(browser, url)
    browser.post(url, {"action": "take", "_selected_action": [str(task.pk)]})
    task.refresh_from_db()
    assert (task.assignee, task.state) == (superuser, "in_progress")
    assert AuditEvent.objects.get(action="assign").after["assignee_id"] == superuser.pk
    assert "openai/bare" in page_of(browser, url, owner="me")
    assert "openai/bare" not in page_of(browser, url, owner="nobody")
    cast.make_price(bare, input="1", output="2")
    PriceVersion.objects.update(confirmed_at=now)
    assert price_tasks.refresh(now=now) == 0
    task.refresh_from_db()
    assert task.state == "done"


def test_a_price_nobody_confirmed_is_queued_and_a_person_may_confirm_it(browser: Client, gpt: LLMModel) -> None:
    now = timezone.now()
    fresh = cast.make_model(gpt.provider, "fresh")
    PriceVersion.objects.filter(model=fresh).update(confirmed_at=now - timedelta(days=29))
    assert price_tasks.refresh(now=now) == 1
    task = PriceTask.objects.get()
    assert (task.kind, task.model) == ("stale", gpt)
    browser.post(reverse(TASKS), {"action": "confirm", "_selected_action": [str(task.pk)]})
    task.refresh_from_db()
    assert task.state == "done"
    assert AuditEvent.objects.get(action="confirm").reason == "grace looked"
    assert price_tasks.refresh(now=timezone.now()) == 0
    PricePolicy.objects.create(stale_after_days=7)
    assert price_tasks.refresh(now=timezone.now()) == 1


def test_an_ignored_task_stays_away_and_an_owner_and_a_note_are_kept(
    browser: Client, superuser: User, gpt: LLMModel
) -> None:
    price_tasks.refresh(now=timezone.now())
    task = PriceTask.objects.get()
    url = reverse("admin:llm_pricetask_change", args=(task.pk,))
    form = {"assignee": str(superuser.pk), "state": "ignored", "note": "ours alone", "change_reason": "no list"}
    assert post(browser, url, **form).status_code == 302
    assert price_tasks.refresh(now=timezone.now()) == 0
    task.refresh_from_db()
    assert (task.state, task.assignee, task.note) == ("ignored", superuser, "ours alone")
    assert AuditEvent.objects.get(reason="no list").before["state"] == "open"
    assert "openai/gpt-4o" in page_of(browser, reverse(TASKS), state="ignored")
    assert "openai/gpt-4o" not in page_of(browser, reverse(TASKS))


def test_the_dashboard_counts_what_waits(browser: Client, gpt: LLMModel, ada: User) -> None:
    propose(gpt, ada)
    price_tasks.refresh(now=timezone.now())
    work = browser.get(reverse("admin:index")).context["price_work"]
    assert [(count, what) for count, what, _ in work] == [
        (1, "price proposals to decide"), (0, "corrections to decide"), (0, "models used but unpriced"),
        (1, "stale prices"),
    ]  # fmt: skip
