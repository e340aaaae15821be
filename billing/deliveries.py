"""Alerts on their way: which are due, what is sent, what came of it, and when it is tried again.

A delivery is claimed before it is sent and recorded afterwards. If the worker dies in between, the claim runs out and
it is sent once more, with the same id. Two workers never hold the same claim.
"""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import F

from billing import subscriptions
from billing.alert_models import Alert, AlertDelivery, AlertSubscription

Status = AlertDelivery.Status
# How long to wait after each attempt that failed; after the last of them it is given up.
WAITS = (
    timedelta(seconds=30),
    timedelta(minutes=2),
    timedelta(minutes=10),
    timedelta(hours=1),
    timedelta(hours=6),
)
MOST_ATTEMPTS = len(WAITS) + 1
# Longer than a batch can take, so that nobody else sends what is still being sent.
CLAIM = timedelta(minutes=5)
BATCH = 50
TEST = "test"
_GONE = 410


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one attempt. `error` is empty if it was delivered."""

    error: str = ""
    response_status: int | None = None

    @property
    def is_gone(self) -> bool:
        """The receiver says that it will never be there again."""
        return self.response_status == _GONE


def claim(*, now: datetime) -> list[AlertDelivery]:
    """Up to `BATCH` deliveries that are due, now ours alone for `CLAIM`, with their alert and subscription."""
    with transaction.atomic():
        due = AlertDelivery.objects.filter(status=Status.PENDING, next_try_at__lte=now)
        due.filter(attempts__gte=MOST_ATTEMPTS).update(
            status=Status.GIVEN_UP, next_try_at=None, last_error="The worker stopped during the last attempt."
        )
        due.filter(subscription__is_active=False).update(
            status=Status.GIVEN_UP, next_try_at=None, last_error="The subscription was switched off."
        )
        # SQLite has no row locks; there, one transaction at a time writes.
        locked = due.select_for_update(skip_locked=connection.features.has_select_for_update_skip_locked)
        ids = list(locked.order_by("next_try_at", "pk").values_list("pk", flat=True)[:BATCH])
        AlertDelivery.objects.filter(pk__in=ids).update(attempts=F("attempts") + 1, next_try_at=now + CLAIM)
    claimed = AlertDelivery.objects.filter(pk__in=ids).select_related("alert__tenant", "subscription")
    return list(claimed.order_by("pk"))


def record(*, delivery: AlertDelivery, outcome: Outcome, now: datetime) -> None:
    """Keep what came of a claimed delivery, unless somebody claimed it again meanwhile."""
    row = AlertDelivery.objects.filter(pk=delivery.pk, status=Status.PENDING, attempts=delivery.attempts)
    said = {"response_status": outcome.response_status, "last_error": outcome.error[:300]}
    if not outcome.error:
        row.update(**said, status=Status.DELIVERED, delivered_at=now, next_try_at=None)
    elif outcome.is_gone or delivery.attempts >= MOST_ATTEMPTS:
        row.update(**said, status=Status.GIVEN_UP, next_try_at=None)
    else:
        row.update(**said, next_try_at=now + WAITS[delivery.attempts - 1])
    if outcome.is_gone:
        subscriptions.switch_off(subscription=delivery.subscription, job="send_alerts", reason=outcome.error, now=now)


def trial(subscription: AlertSubscription, *, now: datetime) -> Alert:
    """What a test sends: an alert that is kept nowhere."""
    return Alert(
        event=TEST,
        tenant=subscription.tenant,
        title="A test: this is how alerts of Tollgate arrive",
        data={"subscription": str(subscription.pk)},
        created_at=now,
    )


# --- What is sent -----------------------------------------------------------------------------------------------------


def webhook(subscription: AlertSubscription, alert: Alert, *, now: datetime) -> tuple[dict[str, str], bytes]:
    """Headers and body, signed in the manner of Standard Webhooks. Raises LookupError if the secret is lost."""
    body = json.dumps(_payload(alert), ensure_ascii=False, separators=(",", ":")).encode()
    timestamp = int(now.timestamp())
    signature = subscriptions.signature(subscription, message_id=str(alert.pk), timestamp=timestamp, body=body)
    headers = {
        "content-type": "application/json",
        "user-agent": "Tollgate",
        "webhook-id": str(alert.pk),
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature,
    }
    return headers, body


def _payload(alert: Alert) -> dict[str, Any]:
    return {
        "id": str(alert.pk),
        "type": alert.event,
        "created_at": alert.created_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "tenant": None if alert.tenant is None else alert.tenant.slug,
        "data": {"message": alert.title, **alert.data},
    }


def subject(alert: Alert) -> str:
    """One printable line, whatever a tenant's names hold."""
    return f"[Tollgate] {_line(alert.title)}"[:200]


def text(alert: Alert) -> str:
    """The mail: what happened, its particulars a line each, where to change what is sent."""
    lines = [f"{_line(alert.title)}.", ""]
    for name, value in sorted(alert.data.items()):  # PostgreSQL keeps an object's names in an order of its own
        if isinstance(value, list):
            lines += [f"{_label(name)}:", *(f"  {_line(item)}" for item in value)]
        else:
            lines.append(f"{_label(name)}: {_line(value)}")
    lines += ["", f"At: {alert.created_at:%Y-%m-%d %H:%M:%S} UTC", f"Event: {alert.event} ({alert.pk})"]
    lines += ["", "You get this mail because this address is subscribed to alerts of Tollgate.", ""]
    return "\n".join(lines)


def _label(name: str) -> str:
    return name.replace("_", " ").capitalize().replace(" usd", ", USD")


def _line(value: object) -> str:
    """`value` as one line without control characters."""
    return "".join(character if character.isprintable() else " " for character in str(value)).strip()
