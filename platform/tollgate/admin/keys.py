"""A key's page with its budgets, and what it has used in 30 days: by provider, model and power level, and each day."""

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from billing import key_usage, windows
from billing.admin import budgets
from tenants.admin import dress
from tenants.admin.keys import ApiKeyAdmin as BaseApiKeyAdmin
from tenants.models import ApiKey
from tollgate.admin.dashboard import share

DAYS = 30
LISTED = 8
_PARTS = (("provider", "Provider"), ("model", "Model"), ("power_level", "Power level"), ("day", "Day"))

admin.site.unregister(ApiKey)


def panel(key: ApiKey, tenant: Any) -> dict[str, Any]:
    """The figures of the template, as people read them."""
    today = windows.billing_day(timezone.now(), tenant.timezone)
    start = today - timedelta(days=DAYS - 1)
    found = key_usage.of_key(tenant_id=tenant.pk, column="key_id", key=key.pk, start=start, end=today)
    shown = {name: found[f"by_{name}"] for name, _ in _PARTS}
    shown["day"] = list(reversed(shown["day"]))  # the newest first, as in lists
    parts = [(label, [_row(row[name], row) for row in shown[name][:LISTED]]) for name, label in _PARTS]
    url = f"{reverse('admin:usage')}?span=30d&tenant={tenant.slug}"
    return {"since": start, "until": today, "total": _row("", found["total"]), "parts": parts, "url": url}


def _row(name: Any, row: dict[str, Any]) -> list[str]:
    """Requests, tokens, cost, average cost, average latency, own keys' share."""
    return [
        str(name) or dress.NONE,
        f"{row['requests']:,}",
        f"{row['total_tokens']:,}",
        dress.usd_round(row["cost_usd"]),
        dress.usd_round(row["avg_cost_usd"]),
        f"{row['avg_latency_ms']:,} ms",
        share(row["byok_requests"], row["requests"]),
    ]


@admin.register(ApiKey)
class ApiKeyAdmin(BaseApiKeyAdmin):
    """Keys of all tenants, and of staff, each with what it has used."""

    change_form_outer_before_template = "tollgate/admin/key_usage.html"

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], **kwargs: Any) -> Any:
        key = kwargs.get("obj")
        if isinstance(key, Model) and request.user.has_perm("billing.view_usagerecord"):
            stored = ApiKey.objects.select_related("tenant").get(pk=key.pk)  # the form's may carry what was typed
            if stored.tenant is not None:
                own = [budgets.Budget.of("key", stored)]
                context["budgets"] = budgets.panel(tenant=stored.tenant, scopes=own, now=timezone.now())
                context["used"] = panel(stored, stored.tenant)
        return super().render_change_form(request, context, **kwargs)
