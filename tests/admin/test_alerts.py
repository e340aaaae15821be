"""Alerts in the admin: the log with its deliveries, and subscriptions whose secret is shown once."""

from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from billing import subscriptions
from billing.alert_models import Alert, AlertSubscription
from tenants.models import AuditEvent, Tenant
from tests import cast
from tests.admin import rows
from tests.admin.test_catalog import post
from tests.fakes import FakeReceiver

ADD = "admin:billing_alertsubscription_add"
CHANGE = "admin:billing_alertsubscription_change"
LIST = "admin:billing_alertsubscription_changelist"
FORM = {"kind": "webhook", "target": "http://10.0.0.7/in", "events": ["provider.down"], "thresholds": "80, 100,50",
        "is_active": "on"}  # fmt: skip


def secret_on(page: str) -> str:
    start = page.index('value="whsec_') + len('value="')
    return page[start : page.index('"', start)]


def test_a_webhook_of_the_platform_is_made_and_its_secret_is_shown_once(browser: Client, superuser: User) -> None:
    answer = browser.post(reverse(ADD), FORM | {"change_reason": "pager"})
    subscription = AlertSubscription.objects.get()
    assert secret_on(answer.content.decode()) == subscriptions.secret(subscription)
    assert "no-store" in answer["cache-control"]
    assert (subscription.tenant, subscription.thresholds, subscription.created_by) == (None, [50, 80, 100], "grace")
    event = AuditEvent.objects.get()
    assert (event.action, event.reason, event.actor_label) == ("create", "pager", "grace")
    for name, args in ((CHANGE, (subscription.pk,)), (LIST, ()), (CHANGE[:-6] + "history", (subscription.pk,))):
        page = browser.get(reverse(name, args=args)).content.decode()
        assert "whsec_" not in page
        assert subscription.salt not in page


def test_a_mail_subscription_of_a_tenant_goes_back_to_the_list(browser: Client, acme: Tenant) -> None:
    form = FORM | {"tenant": str(acme.pk), "kind": "email", "target": "ops@acme.org", "events": ["byok.invalid"]}
    assert browser.post(reverse(ADD), form).headers["location"] == reverse(LIST)
    assert AlertSubscription.objects.get().tenant == acme


def test_the_form_refuses_what_a_tenant_may_not_have(browser: Client, acme: Tenant) -> None:
    page = browser.post(reverse(ADD), FORM | {"tenant": str(acme.pk)}).content.decode()
    assert "A tenant can be told of budget.threshold, budget.forecast, byok.invalid only." in page
    assert "Only https on port 443" in page
    page = browser.post(reverse(ADD), FORM | {"thresholds": "50, x"}).content.decode()
    assert "Whole percentages with commas between them" in page
    page = browser.post(reverse(ADD), FORM | {"thresholds": "150"}).content.decode()
    assert "A list of 1 to 10 whole percentages from 1 to 100." in page
    assert not AlertSubscription.objects.exists()


def test_a_tenant_that_has_twenty_is_told_so(browser: Client, acme: Tenant) -> None:
    for _ in range(20):
        AlertSubscription.objects.create(tenant=acme, kind="email", target="a@acme.org", events=["byok.invalid"])
    form = FORM | {"tenant": str(acme.pk), "kind": "email", "target": "ops@acme.org", "events": ["byok.invalid"]}
    page = browser.post(reverse(ADD), form, follow=True).content.decode()
    assert "A tenant has at most 20 subscriptions." in page
    assert AlertSubscription.objects.count() == 20


def test_a_change_is_audited_and_keeps_tenant_and_kind(browser: Client) -> None:
    browser.post(reverse(ADD), FORM)
    subscription = AlertSubscription.objects.get()
    url = reverse(CHANGE, args=(subscription.pk,))
    assert post(browser, url, thresholds="90", kind="email", events=["provider.down", "provider.up"]).status_code == 302
    subscription.refresh_from_db()
    assert (subscription.kind, subscription.thresholds, subscription.events) == (
        "webhook", [90], ["provider.down", "provider.up"],
    )  # fmt: skip
    assert AuditEvent.objects.get(action="update").after == {
        "thresholds": [90], "events": ["provider.down", "provider.up"],
    }  # fmt: skip


def test_the_secret_is_rotated_by_post_only_and_shown_once(browser: Client) -> None:
    made = secret_on(browser.post(reverse(ADD), FORM).content.decode())
    subscription = AlertSubscription.objects.get()
    url = reverse("admin:billing_alertsubscription_rotate_secret", args=(subscription.pk,))
    assert "whsec_" not in browser.get(url).content.decode()
    answer = browser.post(url, {"reason": "leaked"})
    subscription.refresh_from_db()
    assert secret_on(answer.content.decode()) == subscriptions.secret(subscription) != made
    event = AuditEvent.objects.get(action="rotate-secret")
    assert event.reason == "leaked"
    assert subscription.salt not in str([event.before, event.after])


def test_a_test_is_sent_by_post_only_and_its_answer_said_in_words(browser: Client) -> None:
    with FakeReceiver() as receiver:
        browser.post(reverse(ADD), FORM | {"target": receiver.url})
        url = reverse("admin:billing_alertsubscription_send_test", args=(AlertSubscription.objects.get().pk,))
        browser.get(url)
        assert receiver.received == []
        assert "The test arrived." in browser.post(url, follow=True).content.decode()
        receiver.answer(503)
        assert "It answered HTTP 503 instead of 2xx." in browser.post(url, follow=True).content.decode()
        assert [got.json["type"] for got in receiver.received] == ["test", "test"]


def test_the_log_shows_an_alert_with_its_deliveries_inertly(browser: Client, acme: Tenant) -> None:
    alert = rows.alert(acme)
    Alert.objects.create(key="p", event="provider.down", title="The provider X is down", created_at=rows.NOW)
    page = browser.get(reverse("admin:billing_alert_changelist")).content.decode()
    for words in ("1 delivered", "1 waiting", "nobody subscribed", "still", "The provider X is down"):
        assert words in page, words
    page = browser.get(reverse("admin:billing_alert_change", args=(alert.pk,))).content.decode()
    assert "https://hooks.example.com/" in page
    assert rows.HOSTILE not in page
    pending = browser.get(reverse("admin:billing_alert_changelist"), {"deliveries__status__exact": "pending"})
    assert "The provider X is down" not in pending.content.decode()


def test_a_page_of_an_alert_takes_the_same_queries_however_many_were_told(
    browser: Client, acme: Tenant, django_assert_max_num_queries: object
) -> None:
    alert = rows.alert(acme)
    for _ in range(10):
        rows.alert(acme).deliveries.update(alert=alert)
    with django_assert_max_num_queries(8):  # type: ignore[operator]
        browser.get(reverse("admin:billing_alert_change", args=(alert.pk,)))


def test_who_may_only_look_can_neither_test_nor_rotate(acme: Tenant, client: Client) -> None:
    viewer, _ = cast.make_staff("vera", superuser=False, permissions=("billing.view_alertsubscription",))
    client.force_login(viewer)
    hook = AlertSubscription.objects.create(
        tenant=acme, kind="webhook", target="https://x.org/", events=["byok.invalid"]
    )
    assert client.get(reverse(CHANGE, args=(hook.pk,))).status_code == 200
    for name in ("send_test", "rotate_secret"):
        url = reverse(f"admin:billing_alertsubscription_{name}", args=(hook.pk,))
        assert client.post(url).status_code == 403
