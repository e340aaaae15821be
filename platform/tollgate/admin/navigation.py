"""The sidebar: what staff do, grouped by what it is about. A link shows only to those who may follow it."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse

# Group: (title, icon, URL name, permission).
GROUPS: list[tuple[str, list[tuple[str, str, str, str]]]] = [
    (
        "Overview",
        [
            ("Dashboard", "dashboard", "admin:index", ""),
            ("Usage", "monitoring", "admin:usage", "billing.view_usagerecord"),
        ],
    ),
    (
        "Catalog",
        [
            ("Providers", "hub", "admin:llm_llmprovider_changelist", "llm.view_llmprovider"),
            ("Models", "deployed_code", "admin:llm_llmmodel_changelist", "llm.view_llmmodel"),
            ("Breakers", "electrical_services", "admin:llm_llmbreaker_changelist", "llm.view_llmprovider"),
            ("Provider keys", "vpn_key", "admin:llm_providercredential_changelist", "llm.view_providercredential"),
        ],
    ),
    (
        "Prices",
        [
            ("Price proposals", "price_check", "admin:llm_priceproposal_changelist", "llm.view_priceproposal"),
            ("Price book", "menu_book", "admin:llm_priceversion_changelist", "llm.view_priceversion"),
            ("Corrections", "history", "admin:llm_correctionrun_changelist", "llm.view_correctionrun"),
            ("Price queue", "playlist_add_check", "admin:llm_pricetask_changelist", "llm.view_pricetask"),
            ("Price policy", "policy", "admin:llm_pricepolicy_changelist", "llm.view_pricepolicy"),
        ],
    ),
    (
        "Routing",
        [
            ("Rules", "route", "admin:llm_llmroutingrule_changelist", "llm.view_llmroutingrule"),
            ("Power levels", "speed", "admin:llm_powerlevelpolicy_changelist", "llm.view_powerlevelpolicy"),
            ("Simulator", "alt_route", "admin:llm_llmroutingrule_simulate", "llm.view_llmroutingrule"),
        ],
    ),
    (
        "Tenants",
        [
            ("Tenants", "apartment", "admin:tenants_tenant_changelist", "tenants.view_tenant"),
            ("API keys", "key", "admin:tenants_apikey_changelist", "tenants.view_apikey"),
            ("Configs", "tune", "admin:llm_llmconfig_changelist", "llm.view_llmconfig"),
            ("Terms of tiers", "percent", "admin:tenants_tierterms_changelist", "tenants.view_tierterms"),
            ("Tenants' prices", "sell", "admin:llm_priceoverride_changelist", "llm.view_priceoverride"),
        ],
    ),
    (
        "Money",
        [
            ("Requests", "receipt_long", "admin:billing_usagerecord_changelist", "billing.view_usagerecord"),
            ("Statements", "request_quote", "admin:billing_statement_changelist", "billing.view_statement"),
            ("Drift", "difference", "admin:drift", "billing.view_usagerecord"),
            ("Refusals", "block", "admin:llm_routerefusal_changelist", "llm.view_routerefusal"),
            ("Budget windows", "savings", "admin:billing_budgetwindow_changelist", "billing.view_budgetwindow"),
            ("Holds", "hourglass_top", "admin:billing_hold_changelist", "billing.view_hold"),
            ("Daily usage", "calendar_month", "admin:billing_dailyusage_changelist", "billing.view_dailyusage"),
            ("Credits", "add_card", "admin:billing_creditentry_changelist", "billing.view_creditentry"),
            ("Adjustments", "exposure", "admin:billing_adjustment_changelist", "billing.view_adjustment"),
        ],
    ),
    (
        "Operations",
        [
            ("Health", "monitor_heart", "admin:health", "llm.view_llmprovider"),
            ("Alerts", "notifications", "admin:billing_alert_changelist", "billing.view_alert"),
            (
                "Alert subscriptions",
                "campaign",
                "admin:billing_alertsubscription_changelist",
                "billing.view_alertsubscription",
            ),
            (
                "Schedules",
                "schedule",
                "admin:django_celery_beat_periodictask_changelist",
                "django_celery_beat.view_periodictask",
            ),
            (
                "Job results",
                "task_alt",
                "admin:django_celery_results_taskresult_changelist",
                "django_celery_results.view_taskresult",
            ),
            ("People", "group", "admin:auth_user_changelist", "auth.view_user"),
            ("Groups", "groups", "admin:auth_group_changelist", "auth.view_group"),
        ],
    ),
    ("Audit", [("Audit log", "history", "admin:tenants_auditevent_changelist", "tenants.view_auditevent")]),
]


def groups(request: HttpRequest) -> list[dict[str, Any]]:
    """The sidebar in unfold's form."""
    path = request.path
    return [
        {
            "title": title,
            "separator": bool(number),
            "items": [
                {
                    "title": name,
                    "icon": icon,
                    "link": link,
                    "active": _active(path, link),
                    "permission": _allowed(permission),
                }
                for name, icon, url, permission in items
                for link in (reverse(url),)
            ],
        }
        for number, (title, items) in enumerate(GROUPS)
    ]


def _active(path: str, link: str) -> bool:
    index, simulator = reverse("admin:index"), reverse("admin:llm_llmroutingrule_simulate")
    if link == index or simulator in (path, link):
        return path == link
    return path.startswith(link)


def _allowed(permission: str) -> Callable[[HttpRequest], bool]:
    def allowed(request: HttpRequest) -> bool:
        return not permission or request.user.has_perm(permission)

    return allowed


def favicon(request: HttpRequest) -> str:
    return static("tollgate/favicon.svg")


def stylesheet(request: HttpRequest) -> str:
    return static("tollgate/admin.css")
