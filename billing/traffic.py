"""How each provider served the requests of the last hours, for the health board: by the moment, not by billing day."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from django.db.models import Count, F, Max, Q

from billing.breakdown import Times
from billing.histograms import bucket_of
from billing.models import UsageRecord


@dataclass(slots=True)
class Traffic:
    """`errors` are requests that ended with this provider and HTTP 400 or above; `lost_attempts` calls of it that
    failed before another call answered or failed too."""

    requests: int = 0
    errors: int = 0
    lost_attempts: int = 0
    last_error_at: datetime | None = None
    times: Times = field(default_factory=Times)


def by_provider(*, since: datetime, until: datetime) -> Mapping[str, Traffic]:
    """The traffic accepted from `since` to `until`, by the provider's slug. Two queries."""
    found: dict[str, Traffic] = defaultdict(Traffic)
    wrong = Q(status_code__gte=400)
    # Both ends, though the future is empty: with one alone SQLite would walk all rows in the order of the groups.
    accepted = UsageRecord.objects.filter(created_at__gte=since, created_at__lte=until).order_by()
    counted = accepted.values(
        slug=F("provider_slug"), latency=bucket_of("latency_ms"), ttft=bucket_of("ttft_ms")
    ).annotate(count=Count("pk"), errors=Count("pk", filter=wrong), last=Max("created_at", filter=wrong))
    for row in counted.iterator():
        traffic = found[row["slug"]]
        traffic.requests += row["count"]
        traffic.errors += row["errors"]
        first = {} if row["ttft"] is None else {row["ttft"]: row["count"]}
        traffic.times.add(Times(latency={row["latency"]: row["count"]}, ttft=first))
        if row["last"] is not None:
            traffic.last_error_at = max(row["last"], traffic.last_error_at or row["last"])
    # The last attempt is the request's own ending; only requests with several have lost any.
    several = accepted.filter(attempts__1__isnull=False).values_list("attempts", flat=True)
    for attempts in several.iterator():
        for attempt in attempts[:-1]:
            found[attempt["provider"]].lost_attempts += 1
    return found
