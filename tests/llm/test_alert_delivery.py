"""Alerts on their way: signed webhooks to a real receiver, mail, retries, and workers that die half way."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import settings
from django.core import mail
from django.db import connections

from billing import alerts as raising
from billing import deliveries, subscriptions
from billing.alert_models import Alert, AlertDelivery, AlertSubscription, Event
from llm import alerts
from llm.choices import HealthStatus
from llm.engine import webhooks
from llm.models import LLMProvider, ProviderCredential, ProviderHealthCheck
from llm.tasks import send_alerts
from tenants import audit
from tenants.models import AuditEvent, Tenant
from tests import cast
from tests.billing.made import spend
from tests.fakes import FakeReceiver
from tests.fakes.mailbox import FakeMailServer
from tests.fakes.receiver import DRIP, HANG

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
pytestmark = pytest.mark.django_db


@pytest.fixture
def receiver() -> Any:
    with FakeReceiver() as server:
        yield server


def subscribe(target: str, *, tenant: Tenant | None = None, **values: Any) -> tuple[AlertSubscription, str]:
    fields = {"kind": "webhook", "events": [str(event) for event in Event]} | values
    if tenant is not None:
        fields["events"] = ["budget.threshold", "budget.forecast", "byok.invalid"]
    row = AlertSubscription(tenant=tenant, target=target, **fields)
    return subscriptions.create(subscription=row, actor=audit.system("test"), now=NOW)


def happen(number: int = 1, *, tenant: Tenant | None = None, event: Event = Event.RECONCILE_FAILED) -> Alert:
    """Something worth an alert."""
    notice = raising.Notice(
        key=f"test:{number}", event=event, title=f"Thing {number} happened", data={"number": number},
        tenant_id=None if tenant is None else tenant.pk,
    )  # fmt: skip
    raising.raise_all(notices=[notice], now=NOW)
    return Alert.objects.get(key=notice.key)


def state() -> tuple[Any, ...]:
    row = AlertDelivery.objects.get()
    return row.status, row.attempts, row.response_status, row.last_error, row.next_try_at


def test_a_webhook_arrives_signed_with_a_small_body(receiver: FakeReceiver, acme: Tenant) -> None:
    _, secret = subscribe(receiver.url)
    alert = happen(tenant=acme, event=Event.BUDGET_THRESHOLD)
    assert alerts.deliver(now=NOW) == 1
    (got,) = receiver.received
    assert got.path == "/hooks?of=tollgate"
    assert got.json == {
        "id": str(alert.pk), "type": "budget.threshold", "created_at": "2026-11-22T12:00:00Z", "tenant": "acme",
        "data": {"message": "Thing 1 happened", "number": 1},
    }  # fmt: skip
    assert (got.headers["webhook-id"], got.headers["webhook-timestamp"]) == (str(alert.pk), "1795348800")
    assert (got.headers["content-type"], got.headers["host"]) == ("application/json", f"127.0.0.1:{receiver.port}")
    assert got.is_signed_with(secret)
    assert not got.is_signed_with(subscribe("https://other.acme.org/")[1])
    assert state() == ("delivered", 1, 204, "", None)
    assert AlertDelivery.objects.get().delivered_at == NOW
    assert alerts.deliver(now=NOW + timedelta(days=1)) == 0


def test_a_failing_receiver_is_tried_six_times_ever_later_and_then_given_up(receiver: FakeReceiver) -> None:
    receiver.answer(500, 503, 404, 302, 500, 500)
    subscribe(receiver.url)
    happen()
    now = NOW
    words = [
        "It answered HTTP 500 instead of 2xx.", "It answered HTTP 503 instead of 2xx.",
        "It answered HTTP 404 instead of 2xx.",
        "It redirects (HTTP 302), which is not followed. Give the URL where it leads.",
        "It answered HTTP 500 instead of 2xx.",
    ]  # fmt: skip
    for attempt, (wait, said) in enumerate(zip((30, 120, 600, 3_600, 21_600), words, strict=True), 1):
        assert alerts.deliver(now=now) == 1
        assert state() == ("pending", attempt, int(said.split("HTTP ")[1][:3]), said, now + timedelta(seconds=wait))
        assert alerts.deliver(now=now + timedelta(seconds=wait - 1)) == 0
        now += timedelta(seconds=wait)
    assert alerts.deliver(now=now) == 1
    assert state() == ("given_up", 6, 500, "It answered HTTP 500 instead of 2xx.", None)
    assert alerts.deliver(now=now + timedelta(days=9)) == 0
    assert len({got.headers["webhook-id"] for got in receiver.received}) == 1
    assert len({got.body for got in receiver.received}) == 1
    assert [got.path for got in receiver.received] == ["/hooks?of=tollgate"] * 6  # no redirect was followed


def test_what_failed_arrives_when_the_receiver_is_back_signed_anew(receiver: FakeReceiver) -> None:
    receiver.answer(500)
    _, secret = subscribe(receiver.url)
    happen()
    alerts.deliver(now=NOW)
    alerts.deliver(now=NOW + timedelta(seconds=30))
    assert state() == ("delivered", 2, 204, "", None)
    assert [got.headers["webhook-timestamp"] for got in receiver.received] == ["1795348800", "1795348830"]
    assert all(got.is_signed_with(secret) for got in receiver.received)


@pytest.mark.parametrize("how", [HANG, DRIP])
def test_a_receiver_that_does_not_end_its_answer_costs_a_few_seconds_and_keeps_no_other_waiting(
    receiver: FakeReceiver, how: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "TIMEOUT_S", 1.0)
    receiver.answer(how)
    subscribe(receiver.url)
    happen()
    with FakeReceiver() as other:
        _, secret = subscribe(other.url)
        happen(2)
        assert alerts.deliver(now=NOW) == 3
        assert [got.is_signed_with(secret) for got in other.received] == [True]
    stuck = AlertDelivery.objects.get(status="pending")
    assert (stuck.last_error, stuck.response_status) == ("No answer within 1 seconds.", None)


def test_a_receiver_that_is_not_there_is_said_in_words_without_its_address() -> None:
    subscribe("http://127.0.0.1:9/hooks")
    happen()
    alerts.deliver(now=NOW)
    assert state()[:4] == ("pending", 1, None, "It could not be reached, or broke off before it answered.")


def test_410_ends_it_and_switches_the_subscription_off_with_an_audit_row(receiver: FakeReceiver) -> None:
    receiver.answer(410)
    subscription, _ = subscribe(receiver.url)
    happen()
    alerts.deliver(now=NOW)
    assert state()[:3] == ("given_up", 1, 410)
    subscription.refresh_from_db()
    assert subscription.is_active is False
    event = AuditEvent.objects.get(action="update")
    assert (event.actor_label, event.before, event.after) == ("send_alerts", {"is_active": True}, {"is_active": False})
    happen(2)
    assert alerts.deliver(now=NOW) == 0


def test_what_waits_for_a_subscription_that_was_switched_off_is_given_up(receiver: FakeReceiver) -> None:
    subscription, _ = subscribe(receiver.url)
    happen()
    subscriptions.update(subscription=subscription, values={"is_active": False}, actor=audit.system("test"), now=NOW)
    assert alerts.deliver(now=NOW) == 0
    assert state() == ("given_up", 0, None, "The subscription was switched off.", None)
    assert receiver.received == []


def test_a_worker_that_dies_after_sending_sends_once_more_with_the_same_id(receiver: FakeReceiver) -> None:
    subscribe(receiver.url)
    alert = happen()
    (claimed,) = deliveries.claim(now=NOW)
    alerts.send([(claimed.subscription, claimed.alert)], now=NOW)  # and it dies before it has recorded that
    assert alerts.deliver(now=NOW + timedelta(minutes=4)) == 0
    assert alerts.deliver(now=NOW + timedelta(minutes=5)) == 1
    assert [got.headers["webhook-id"] for got in receiver.received] == [str(alert.pk)] * 2
    assert state()[:2] == ("delivered", 2)
    # What the first worker would have said, had it only been slow, comes too late to be believed.
    deliveries.record(delivery=claimed, outcome=deliveries.Outcome(error="late"), now=NOW)
    assert state()[:2] == ("delivered", 2)


def test_a_worker_that_dies_in_the_last_attempt_leaves_it_given_up(receiver: FakeReceiver) -> None:
    subscribe(receiver.url)
    happen()
    AlertDelivery.objects.update(attempts=6)
    assert alerts.deliver(now=NOW) == 0
    assert state()[:4] == ("given_up", 6, None, "The worker stopped during the last attempt.")


@pytest.mark.django_db(transaction=True)
def test_runs_at_the_same_time_send_each_delivery_once(receiver: FakeReceiver) -> None:
    subscribe(receiver.url)
    for number in range(120):
        happen(number)
    attempts: list[int] = []

    def run() -> None:
        try:
            attempts.append(alerts.deliver(now=NOW))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(attempts) == 120
    assert sorted(got.json["data"]["number"] for got in receiver.received) == list(range(120))
    assert AlertDelivery.objects.filter(status="delivered").count() == 120


def test_a_rotated_secret_signs_from_then_on_alone(receiver: FakeReceiver) -> None:
    subscription, old = subscribe(receiver.url)
    new = subscriptions.rotate_secret(subscription=subscription, actor=audit.system("test"), now=NOW)
    assert new != old
    happen()
    alerts.deliver(now=NOW)
    assert (receiver.received[0].is_signed_with(new), receiver.received[0].is_signed_with(old)) == (True, False)
    assert AuditEvent.objects.get(action="rotate-secret").object_id == str(subscription.pk)


def test_a_secret_survives_a_new_pepper_and_a_lost_pepper_is_said(receiver: FakeReceiver, settings: Any) -> None:
    _, secret = subscribe(receiver.url)
    old = dict(settings.KEY_PEPPERS)
    settings.KEY_PEPPERS = {"new": b"n" * 32} | old
    happen()
    alerts.deliver(now=NOW)
    assert receiver.received[0].is_signed_with(secret)
    settings.KEY_PEPPERS = {"new": b"n" * 32}
    happen(2)
    alerts.deliver(now=NOW)
    lost = AlertDelivery.objects.get(status="pending")
    assert lost.last_error == "Its secret is lost with its KEY_PEPPER. Rotate the secret."


def test_a_tenant_s_webhook_does_not_reach_a_private_address_however_it_is_named(
    receiver: FakeReceiver, acme: Tenant
) -> None:
    subscription, _ = subscribe("https://hooks.acme.org/", tenant=acme)
    for host in ("127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.0.0.1", "[::1]", "[::ffff:127.0.0.1]"):
        # Past the form, as DNS may lead there any time: the guard is where the connection is made.
        AlertSubscription.objects.filter(pk=subscription.pk).update(target=f"http://{host}:{receiver.port}/")
        subscription.refresh_from_db()
        outcome = alerts.send_test(subscription=subscription, now=NOW)
        assert outcome.error == (
            "Its host leads to an address that is not public. Use a host on the public internet."
        ), host
    assert receiver.received == []


def test_a_mail_says_what_happened_and_to_whom_and_no_name_breaks_its_headers(acme: Tenant) -> None:
    subscribe("ops@acme.org", tenant=acme, kind="email")
    key, _ = cast.make_key(acme, "nightly\r\nBcc: victim@example.com\u2028x", budget_limit_daily="1")
    spend(acme.pk, "0.8", day=NOW.date(), key_id=key.pk)
    assert alerts.find(now=NOW) == 3
    alerts.deliver(now=NOW)
    (fifty, eighty, pace) = sorted(mail.outbox, key=lambda message: message.subject)
    assert fifty.subject != eighty.subject
    assert pace.subject.endswith("” will be used up on 2026-11-22 at about 15:00 at this pace")
    assert eighty.subject == (
        "[Tollgate] acme: the daily budget of the key “nightly  Bcc: victim@example.com x” is 80 % spent"
    )
    assert (eighty.to, eighty.from_email) == (["ops@acme.org"], settings.DEFAULT_FROM_EMAIL)
    assert eighty.body.splitlines()[2:11] == [
        "Limit, USD: 1", "Percent: 80", "Period: day", "Resets at: 2026-11-23T00:00:00Z", "Scope: key",
        f"Scope id: {key.pk}", "Scope name: nightly  Bcc: victim@example.com x", "Spent, USD: 0.8",
        "Starts on: 2026-11-22",
    ]  # fmt: skip
    assert "Bcc" not in eighty.message()
    assert AlertDelivery.objects.filter(status="delivered").count() == 3


def test_a_mail_server_that_is_not_there_is_said_and_tried_again(settings: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9
    subscribe("ops@acme.org", kind="email")
    happen()
    alerts.deliver(now=NOW)
    assert state() == (
        "pending", 1, None, "The mail server could not be reached, or refused us. Is EMAIL_URL right?",
        NOW + timedelta(seconds=30),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        ("refused", "The mail server does not take mail for this address."),
        ("hangup", "The mail server could not be reached, or refused us. Is EMAIL_URL right?"),
    ],
)
def test_one_mail_that_the_server_does_not_like_loses_no_other(settings: Any, odd: str, said: str) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    with FakeMailServer() as server:
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", server.port
        for name in ("one", odd, "two"):
            subscribe(f"{name}@acme.org", kind="email")
        alert = happen()
        assert alerts.deliver(now=NOW) == 3
        row = AlertDelivery.objects.get(subscription__target__startswith=odd)
        assert (row.status, row.attempts, row.last_error) == ("pending", 1, said)
        AlertSubscription.objects.filter(pk=row.subscription_id).delete()
        alerts.deliver(now=NOW + timedelta(seconds=30))  # what came after a hang-up was not lost
    arrived = sorted(text.partition("To: ")[2].partition("\r\n")[0] for text in server.mails)
    assert arrived == ["one@acme.org", "two@acme.org"]
    assert all(f"<{alert.pk}." in text for text in server.mails)


def check(provider: LLMProvider, status: HealthStatus, error: str = "") -> None:
    ProviderHealthCheck.objects.create(provider=provider, status=status, error=error, checked_at=NOW)
    LLMProvider.objects.filter(pk=provider.pk).update(health_status=status)


def test_a_provider_that_goes_down_is_told_of_once_an_outage_and_once_when_it_is_back() -> None:
    provider = cast.make_provider("openai")
    subscribe("ops@platform.org", kind="email")
    happened = []
    for status in ("healthy", "down", "down", "unknown", "down", "degraded", "healthy", "down", "healthy"):
        check(provider, HealthStatus(status), "It answered HTTP 503: the fault is on its side.")
        happened.append(alerts.find(now=NOW))
    assert happened == [0, 1, 0, 0, 0, 1, 0, 1, 1]
    assert list(Alert.objects.order_by("pk").values_list("event", flat=True)) == [
        "provider.down", "provider.up", "provider.down", "provider.up",
    ]  # fmt: skip
    first, second = Alert.objects.order_by("pk")[:2]
    assert (first.title, second.title) == ("The provider Openai is down", "The provider Openai is back")
    assert first.data == {
        "provider": "openai", "provider_id": str(provider.pk), "health_status": "down",
        "error": "It answered HTTP 503: the fault is on its side.",
    }  # fmt: skip
    assert second.data["minutes_down"] == 0
    assert AlertDelivery.objects.count() == 4


def test_a_tenant_s_refused_key_is_told_to_the_tenant_once_until_it_is_accepted(acme: Tenant, globex: Tenant) -> None:
    provider = cast.make_provider("openai")
    mine, _ = subscribe("ops@acme.org", tenant=acme, kind="email")
    subscribe("ops@globex.org", tenant=globex, kind="email")
    refused = {"is_validated": False, "validation_error": "It refused this key (HTTP 401).", "last_validated_at": NOW}
    credential = cast.make_credential(provider, "sk-own-0123456789abcdef", acme, key_name="ours")
    cast.make_credential(provider, key_name="platform's", **refused)
    assert alerts.find(now=NOW) == 0
    ProviderCredential.objects.filter(pk=credential.pk).update(**refused)
    assert [alerts.find(now=NOW), alerts.find(now=NOW)] == [1, 0]
    alert = Alert.objects.get()
    assert (alert.event, alert.tenant, alert.title) == (
        "byok.invalid", acme, "acme: the own key “ours” for Openai is not taken",
    )  # fmt: skip
    assert alert.data["error"] == "It refused this key (HTTP 401)."
    assert "0123456789" not in str(alert.data)
    assert AlertDelivery.objects.get().subscription == mine
    ProviderCredential.objects.filter(pk=credential.pk).update(is_validated=True, validation_error="")
    assert alerts.find(now=NOW) == 0
    alert.refresh_from_db()
    assert alert.ended_at == NOW
    ProviderCredential.objects.filter(pk=credential.pk).update(**refused)
    assert alerts.find(now=NOW) == 1


def test_a_config_s_budget_is_told_of(acme: Tenant) -> None:
    config = cast.make_config(acme, "main", budget_limit_monthly="2")
    spend(acme.pk, "2", day=NOW.date(), config_id=config.pk)
    assert alerts.find(now=NOW) == 3
    assert Alert.objects.get(percent=100).title == "acme: the monthly budget of the config “main” is used up"


@pytest.mark.django_db(transaction=True)
def test_the_job_finds_and_sends_and_may_run_again(receiver: FakeReceiver) -> None:
    provider = cast.make_provider("openai")
    subscribe(receiver.url)
    check(provider, HealthStatus.DOWN)
    assert send_alerts() == {"raised": 1, "attempts": 1}
    assert send_alerts() == {"raised": 0, "attempts": 0}
    assert [got.json["type"] for got in receiver.received] == ["provider.down"]


def test_a_look_around_takes_few_queries(django_assert_num_queries: Any, acme: Tenant) -> None:
    for number in range(10):
        cast.make_config(acme, f"c{number}", budget_limit_daily="1")
        check(cast.make_provider(f"p{number}"), HealthStatus.DOWN)
    alerts.find(now=NOW)
    with django_assert_num_queries(10):
        assert alerts.find(now=NOW) == 0
