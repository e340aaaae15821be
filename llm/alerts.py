"""Finds what is worth an alert and sends what is due, every minute. Who gets it is decided in `billing.alerts`."""

import smtplib
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from django.conf import settings
from django.core import mail
from django.db.models import Q

from billing import alerts, deliveries
from billing.alert_models import Alert, AlertSubscription, Event
from billing.alerts import Budget, Fault, Notice
from billing.deliveries import Outcome
from llm.choices import HealthStatus
from llm.engine import webhooks
from llm.engine.webhooks import Webhook
from llm.models import LLMConfig, LLMProvider, ProviderCredential, ProviderHealthCheck

# A run stops taking on work after so long: the next one is due.
TAKES_S = 45.0
_UP = {HealthStatus.HEALTHY, HealthStatus.DEGRADED}


def find(*, now: datetime) -> int:
    """Raise an alert for everything that has happened and was not told yet. How many were raised.

    Ten queries, however many tenants there are, and a few more for each hundred new alerts.
    """
    budgets = alerts.about_budgets(limited=[*alerts.budgets(), *_configs()], now=now)
    return alerts.raise_all(notices=budgets, now=now) + _providers(now) + _refused_keys(now)


def deliver(*, now: datetime) -> int:
    """Send what is due. The number of attempts."""
    started, attempts = time.monotonic(), 0
    while time.monotonic() - started < TAKES_S and (claimed := deliveries.claim(now=now)):
        told = [(delivery.subscription, delivery.alert) for delivery in claimed]
        for delivery, outcome in zip(claimed, send(told, now=now), strict=True):
            deliveries.record(delivery=delivery, outcome=outcome, now=now)
        attempts += len(claimed)
    return attempts


def send_test(*, subscription: AlertSubscription, now: datetime) -> Outcome:
    """Send a test now, once, and say what came of it. Nothing is kept."""
    return send([(subscription, deliveries.trial(subscription, now=now))], now=now)[0]


# --- Finding ----------------------------------------------------------------------------------------------------------


def _configs() -> Iterator[Budget]:
    """Configs that have a limit."""
    limited = Q(budget_limit_daily__isnull=False) | Q(budget_limit_monthly__isnull=False)
    for config in LLMConfig.objects.filter(limited).order_by().select_related("tenant"):
        yield Budget(
            kind="config",
            id=config.pk,
            name=config.name,
            tenant_id=config.tenant_id,
            tenant_slug=config.tenant.slug,
            timezone=config.tenant.timezone,
            daily=config.budget_limit_daily,
            monthly=config.budget_limit_monthly,
        )


def _providers(now: datetime) -> int:
    """Who went down, and who is back. A provider that cannot be asked (unknown) is neither."""
    providers = {provider.pk: provider for provider in LLMProvider.objects.filter(is_active=True)}
    down = alerts.lasting(Event.PROVIDER_DOWN)
    back = [
        (alert, providers[pk]) for pk, alert in down.items() if pk in providers and providers[pk].health_status in _UP
    ]
    raised = alerts.raise_all(notices=[_back(provider, alert, now) for alert, provider in back], now=now)
    alerts.end(alerts=[alert for alert, _ in back], now=now)
    fresh = [_down(row) for pk, row in providers.items() if row.health_status == HealthStatus.DOWN and pk not in down]
    return raised + alerts.begin(event=Event.PROVIDER_DOWN, faults=fresh, now=now)


def _down(provider: LLMProvider) -> Fault:
    last = ProviderHealthCheck.objects.filter(provider=provider).order_by("-id").first()
    return Fault(
        about_id=provider.pk,
        title=f"The provider {provider.display_name} is down",
        data=_named(provider) | {"error": "" if last is None else last.error},
    )


def _back(provider: LLMProvider, alert: Alert, now: datetime) -> Notice:
    minutes = int((now - alert.created_at).total_seconds() // 60)
    return Notice(
        key=f"{Event.PROVIDER_UP}:{alert.pk}",
        event=Event.PROVIDER_UP,
        title=f"The provider {provider.display_name} is back",
        about_id=provider.pk,
        data=_named(provider) | {"minutes_down": minutes},
    )


def _named(provider: LLMProvider) -> dict[str, Any]:
    return {"provider": provider.slug, "provider_id": str(provider.pk), "health_status": provider.health_status}


def _refused_keys(now: datetime) -> int:
    """Tenants' own keys that are in use and that their provider does not take."""
    rows = ProviderCredential.objects.filter(
        tenant__isnull=False, is_active=True, is_validated=False, last_validated_at__isnull=False
    ).exclude(validation_error="")
    refused = {row.pk: row for row in rows.defer("sealed").select_related("provider", "tenant")}
    known = alerts.lasting(Event.BYOK_INVALID)
    alerts.end(alerts=[alert for pk, alert in known.items() if pk not in refused], now=now)
    fresh = [_refused(row) for row in refused.values() if row.pk not in known]
    return alerts.begin(event=Event.BYOK_INVALID, faults=fresh, now=now)


def _refused(credential: ProviderCredential) -> Fault:
    slug = "" if credential.tenant is None else credential.tenant.slug
    return Fault(
        about_id=credential.pk,
        tenant_id=credential.tenant_id,
        title=f"{slug}: the own key “{credential.key_name}” for {credential.provider.display_name} is not taken",
        data={
            "provider": credential.provider.slug,
            "credential_id": str(credential.pk),
            "key_name": credential.key_name,
            "key": credential.masked,
            "error": credential.validation_error[:300],
        },
    )


# --- Sending ----------------------------------------------------------------------------------------------------------


def send(told: Sequence[tuple[AlertSubscription, Alert]], *, now: datetime) -> list[Outcome]:
    """Send each alert to its subscription; what came of each, in order. It waits for others: not in a transaction."""
    outcomes: dict[int, Outcome] = {}
    posts: dict[int, Webhook] = {}
    mails: dict[int, mail.EmailMessage] = {}
    for place, (subscription, alert) in enumerate(told):
        if subscription.kind == AlertSubscription.Kind.EMAIL:
            mails[place] = _mail(subscription, alert)
            continue
        try:
            headers, body = deliveries.webhook(subscription, alert, now=now)
        except LookupError:
            outcomes[place] = Outcome(error="Its secret is lost with its KEY_PEPPER. Rotate the secret.")
            continue
        posts[place] = Webhook(
            url=subscription.target, public=subscription.tenant_id is not None, headers=headers, body=body
        )
    if posts:
        outcomes |= zip(posts, webhooks.send(list(posts.values())), strict=True)
    if mails:
        outcomes |= zip(mails, _send_mails(list(mails.values())), strict=True)
    return [outcomes[place] for place in range(len(told))]


def _mail(subscription: AlertSubscription, alert: Alert) -> mail.EmailMessage:
    domain = settings.DEFAULT_FROM_EMAIL.rpartition("@")[2].rstrip(">")
    return mail.EmailMessage(
        subject=deliveries.subject(alert),
        body=deliveries.text(alert),
        to=[subscription.target],
        # The same each time it is tried, so that what arrives twice shows once.
        headers={"Message-ID": f"<{alert.pk}.{subscription.pk}@{domain}>", "Auto-Submitted": "auto-generated"},
    )


def _send_mails(messages: Sequence[mail.EmailMessage]) -> list[Outcome]:
    """Over one connection. A mail server that is out of reach is not waited for once more for each."""
    connection = mail.get_connection()
    outcomes: list[Outcome] = []
    try:
        connection.open()
        for message in messages:
            message.connection = connection
            outcomes.append(_send_mail(message))
    except OSError:
        unsent = len(messages) - len(outcomes)
        outcomes += [Outcome(error="The mail server could not be reached, or refused us. Is EMAIL_URL right?")] * unsent
    finally:
        connection.close()
    return outcomes


def _send_mail(message: mail.EmailMessage) -> Outcome:
    """Raises OSError, as all that smtplib raises is, if the server is not there (any more)."""
    try:
        message.send()
    except smtplib.SMTPRecipientsRefused:
        return Outcome(error="The mail server does not take mail for this address.")
    except (smtplib.SMTPResponseException, ValueError):
        return Outcome(error="The mail server did not take the mail.")
    return Outcome()
