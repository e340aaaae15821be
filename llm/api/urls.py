"""`/api/v1/llm/…` for tenants and `/api/v1/admin/llm/…` for staff; each with and without a trailing slash.

Model references hold slashes (`provider/model_id`), so what follows one in a URL is listed before the model itself.
"""

from django.urls import URLPattern, URLResolver

from llm.api import admin_views, alerts, byok_views, views
from llm.api.breakers import BreakerViewSet
from llm.api.completions import ExplainView, completion_routes
from llm.api.correction_views import CorrectionViewSet
from llm.api.override_views import OverrideViewSet
from llm.api.price_tasks import PricePolicyView, TaskViewSet
from llm.api.price_views import APPROVE, PriceViewSet, ProposalViewSet
from llm.api.requests import RequestDetail
from tenants.api.routes import route

_LIST = {"get": "list", "post": "create"}
_DETAIL = {"get": "retrieve", "put": "update", "patch": "partial_update", "delete": "destroy"}
_READ = {"get": "retrieve"}
_MODELS = "admin/llm/models"
_PROPOSALS = "admin/llm/price-proposals"
_TASKS = "admin/llm/price-tasks"
_CORRECT = "llm.add_correctionrun"
_CORRECTION = "admin/llm/corrections/<str:correction>"
_PROVIDER = "admin/llm/providers/<str:provider>"

urlpatterns: list[URLPattern | URLResolver] = [
    *completion_routes(),
    *route("llm/routing/explain", ExplainView),
    *route("llm/providers", views.ProviderViewSet, {"get": "list"}),
    *route("llm/providers/<str:provider>", views.ProviderViewSet, _READ),
    *route("llm/models", views.ModelViewSet, {"get": "list"}),
    *route("llm/models/<path:model>", views.ModelViewSet, _READ),
    *route("llm/configs", views.ConfigViewSet, _LIST),
    *route("llm/configs/<str:config>", views.ConfigViewSet, _DETAIL),
    *route("llm/byok/keys", byok_views.OwnKeyViewSet, _LIST),
    *route("llm/byok/keys/<str:own_key>", byok_views.OwnKeyViewSet, _DETAIL),
    *route("llm/byok/keys/<str:own_key>/validate", byok_views.OwnKeyViewSet, {"post": "validate"}),
    *route("llm/byok/keys/<str:own_key>/rotate", byok_views.OwnKeyViewSet, {"post": "rotate"}),
    *route("llm/byok/keys/<str:own_key>/usage", byok_views.OwnKeyUsage),
    *route("llm/requests/<str:request_id>", RequestDetail),
    *route("admin/tenants/<str:tenant>/prices", OverrideViewSet, _LIST),
    *route("admin/tenants/<str:tenant>/prices/<str:price>", OverrideViewSet, {"get": "retrieve", "delete": "destroy"}),
    *route("admin/llm/providers", admin_views.AdminProviderViewSet, _LIST),
    *route(_PROVIDER, admin_views.AdminProviderViewSet, _DETAIL),
    *route(f"{_PROVIDER}/health", admin_views.AdminProviderViewSet, {"get": "health"}),
    *route(
        f"{_PROVIDER}/test",
        admin_views.AdminProviderViewSet,
        {"post": "test"},
        staff_permission="llm.change_llmprovider",
    ),
    *route(
        f"{_PROVIDER}/import-models",
        admin_views.AdminProviderViewSet,
        {"post": "import_models"},
        staff_permission="llm.add_llmmodel",
    ),
    *route(f"{_PROVIDER}/credentials", admin_views.CredentialViewSet, _LIST),
    *route(f"{_PROVIDER}/credentials/<str:credential>", admin_views.CredentialViewSet, {"delete": "destroy"}),
    *route("admin/llm/breakers", BreakerViewSet, {"get": "list"}),
    *route(
        "admin/llm/breakers/<str:breaker>/reset",
        BreakerViewSet,
        {"post": "reset"},
        staff_permission="llm.change_llmprovider",
    ),
    *route(_MODELS, admin_views.AdminModelViewSet, _LIST),
    *route(f"{_MODELS}/by-power/<str:level>", admin_views.ModelsByPowerView),
    *route(
        f"{_MODELS}/<path:model>/deprecate",
        admin_views.AdminModelViewSet,
        {"post": "deprecate"},
        staff_permission="llm.change_llmmodel",
    ),
    *route(f"{_MODELS}/<path:model>/prices", PriceViewSet, _LIST),
    *route(
        f"{_MODELS}/<path:model>/prices/<str:version>/cancel",
        PriceViewSet,
        {"post": "cancel"},
        staff_permission="llm.add_priceversion",
    ),
    *route(
        f"{_MODELS}/<path:model>/prices/<str:version>/propose",
        PriceViewSet,
        {"post": "propose"},
        staff_permission="llm.add_priceversion",
    ),
    *route(f"{_MODELS}/<path:model>", admin_views.AdminModelViewSet, _DETAIL),
    *route(_PROPOSALS, ProposalViewSet, {"get": "list"}),
    *route(f"{_PROPOSALS}/approve", ProposalViewSet, {"post": "approve_all"}, staff_permission=APPROVE),
    *route(f"{_PROPOSALS}/reject", ProposalViewSet, {"post": "reject_all"}, staff_permission=APPROVE),
    *route(f"{_PROPOSALS}/<str:proposal>", ProposalViewSet, _READ),
    *route(f"{_PROPOSALS}/<str:proposal>/approve", ProposalViewSet, {"post": "approve"}, staff_permission=APPROVE),
    *route(f"{_PROPOSALS}/<str:proposal>/reject", ProposalViewSet, {"post": "reject"}, staff_permission=APPROVE),
    *route("admin/llm/price-policy", PricePolicyView),
    *route(_TASKS, TaskViewSet, {"get": "list"}),
    *route(f"{_TASKS}/<str:task>", TaskViewSet, _READ | {"patch": "partial_update"}),
    *route(f"{_TASKS}/<str:task>/confirm", TaskViewSet, {"post": "confirm"}, staff_permission=APPROVE),
    *route("admin/llm/corrections", CorrectionViewSet, _LIST),
    *route(_CORRECTION, CorrectionViewSet, _READ),
    *route(f"{_CORRECTION}/approve", CorrectionViewSet, {"post": "approve"}, staff_permission=APPROVE),
    *route(f"{_CORRECTION}/reject", CorrectionViewSet, {"post": "reject"}, staff_permission=APPROVE),
    *route(f"{_CORRECTION}/cancel", CorrectionViewSet, {"post": "cancel"}, staff_permission=_CORRECT),
    *route(f"{_CORRECTION}/work-out", CorrectionViewSet, {"post": "work_out"}, staff_permission=_CORRECT),
    *route("admin/llm/routing-rules", admin_views.RuleViewSet, _LIST),
    *route("admin/llm/routing-rules/<str:rule>", admin_views.RuleViewSet, _DETAIL),
    *route("admin/llm/power-levels", admin_views.PowerLevelViewSet, {"get": "list"}),
    *route(
        "admin/llm/power-levels/<str:level>",
        admin_views.PowerLevelViewSet,
        {"get": "retrieve", "put": "update", "patch": "partial_update"},
    ),
    *route("alerts/subscriptions/<str:subscription>/test", alerts.SubscriptionTest, {"post": "test"}),
    *route(
        "admin/alerts/subscriptions/<str:subscription>/test",
        alerts.AdminSubscriptionTest,
        {"post": "test"},
        staff_permission="billing.change_alertsubscription",
    ),
]
