"""The usage API over HTTP: exact strings, own rows only, and every bad parameter named."""

import json
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client
from django.utils import timezone

from billing import rollup
from llm.api.requests import find
from llm.models import RouteRefusal
from tenants.auth import CALLERS
from tenants.errors import NotFound
from tests.billing.made import a_key, a_tenant, add, adjust, an_id, spend

pytestmark = pytest.mark.django_db

TENANT_URLS = ["/api/v1/me", "/api/v1/llm/usage", "/api/v1/llm/usage/summary"]
ADMIN_URLS = ["/api/v1/admin/usage", "/api/v1/admin/usage/summary", "/api/v1/admin/usage/top-models"]


@pytest.fixture(autouse=True)
def _no_cached_callers():
    CALLERS.clear()
    yield
    CALLERS.clear()


def today():
    return timezone.now().date()


class Api:
    """A client that sends one key."""

    def __init__(self, secret=None):
        self.client = Client(headers={} if secret is None else {"Authorization": f"Bearer {secret}"})

    def get(self, path, status=200, /, **query):
        response = self.client.get(path, query)
        assert response.headers["content-type"].startswith("application/json"), response
        assert response.status_code == status, response.content
        return response.json()

    def refused(self, path, status, /, **query):
        return self.get(path, status, **query)["error"]


@pytest.fixture
def acme():
    return a_tenant("acme", budget_limit_monthly=Decimal(100))


@pytest.fixture
def api(acme):
    key, secret = a_key(acme, name="reader", scopes=["usage:read"], budget_limit_daily=Decimal("1.50"))
    made = Api(secret)
    made.key = key
    return made


@pytest.fixture
def globex():
    """Another tenant, with usage that Acme must never see."""
    tenant = a_tenant("globex")
    spend(tenant.pk, "99", day=today(), key_id=an_id(), user_id="globex-user", model_name="globex-model")
    return tenant


def a_staff_api(*, allowed=True, superuser=False):
    user = get_user_model().objects.create_user("vera", is_staff=True, is_superuser=superuser)
    if allowed:
        user.user_permissions.add(Permission.objects.get(codename="view_usagerecord"))
    _, secret = a_key(None, owner_id=user.pk)
    return Api(secret)


# --- the list ---------------------------------------------------------------------------------------------------------


def test_a_usage_row_has_its_request_id_and_plain_decimal_strings(api, acme, globex):
    row = spend(
        acme.pk,
        "0.0000001200",
        day=today(),
        key_id=api.key.pk,
        cost_input_usd=Decimal(100),
        created_at=datetime(2026, 11, 22, 9, tzinfo=UTC),
    )
    page = api.get("/api/v1/llm/usage")
    (found,) = page["results"]
    assert page["count"] is None
    assert page["next"] is page["previous"] is None
    assert found["request_id"] == str(row.pk)
    assert (found["cost_total_usd"], found["cost_input_usd"], found["cost_output_usd"]) == ("0.00000012", "100", "0")
    assert (found["provider"], found["model"], found["model_name"]) == ("openai", "openai/gpt-4o", "gpt-4o")
    assert found["created_at"] == "2026-11-22T09:00:00Z"
    assert found["billing_day"] == today().isoformat()
    assert "lost_cost_usd" not in found
    assert "decision" not in found


def test_the_list_is_newest_first_and_pages_there_and_back(api, acme):
    ids = [str(spend(acme.pk, day=today()).pk) for _ in range(5)]
    page = api.get("/api/v1/llm/usage", page_size=2)
    seen = [row["request_id"] for row in page["results"]]
    while page["next"]:
        page = api.get(page["next"].removeprefix("http://testserver"))
        seen += [row["request_id"] for row in page["results"]]
    assert seen == sorted(ids, reverse=True)
    back = api.get(page["previous"].removeprefix("http://testserver"))
    assert [row["request_id"] for row in back["results"]] == seen[2:4]


def test_a_page_costs_two_queries_however_long_it_is(api, acme, django_assert_max_num_queries):
    for _ in range(30):
        spend(acme.pk, day=today())
    api.get("/api/v1/llm/usage")  # the key is read, then cached
    with django_assert_max_num_queries(2):
        api.get("/api/v1/llm/usage")


def test_filters_narrow_the_list(api, acme):
    other = an_id()
    wanted = spend(acme.pk, day=today() - timedelta(days=3), key_id=api.key.pk, status="failed", status_code=502)
    spend(acme.pk, day=today(), key_id=other, model_name="gpt-4o-mini", provider_slug="azure-openai")
    before = (today() - timedelta(days=1)).isoformat()
    for query in (
        {"to": before},
        {"to": f"{before}T00:00:00Z"},
        {"model": "openai/gpt-4o"},
        {"provider": "openai"},
        {"status": "failed"},
        {"key": str(api.key.pk)},
    ):
        rows = api.get("/api/v1/llm/usage", **query)["results"]
        assert [row["request_id"] for row in rows] == [str(wanted.pk)], query
    assert api.get("/api/v1/llm/usage", config=str(an_id()))["results"] == []


BAD = [
    ("from", "yesterday"),
    ("from", "2026-13-01"),
    ("from", "2026-02-30"),
    ("from", "0001-01-01T00:00:00+14:00"),
    ("from", ""),
    ("from", "2026-11-22\0"),
    ("to", "9" * 5000),
    ("to", "\ud800"),
    ("model", "gpt\0"),
    ("model", "x" * 301),
    ("provider", "\0"),
    ("status", "200"),
    ("status", "completed' OR 1=1"),
    ("key", "not-a-uuid"),
    ("key", "1" * 400),
    ("config", "'"),
    ("cursor", "!!!"),
    ("cursor", ""),
    ("cursor", "bz01"),  # o=5
    ("cursor", "é"),
    ("cursor", "cD1ub3QtYS11dWlk"),  # p=not-a-uuid
    ("cursor", "cD0lMDA="),  # p=%00
    ("page_size", "many"),
    ("page_size", "0"),
    ("page_size", "-1"),
    ("page_size", "9" * 5000),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_parameter_of_the_list_is_a_400_that_names_it(api, acme, name, value):
    spend(acme.pk, day=today())
    error = api.refused("/api/v1/llm/usage", 400, **{name: value.encode("utf-8", "surrogatepass")})
    assert (error["param"], error["code"], error["type"]) == (name, "invalid_value", "invalid_request_error")


# --- the summary ------------------------------------------------------------------------------------------------------


def test_the_summary_counts_what_is_rolled_up_and_what_is_live(api, acme, globex):
    old = today() - timedelta(days=9)
    spend(acme.pk, "0.25", day=old, key_id=api.key.pk)
    rollup.roll_up(now=timezone.now())
    spent = {"used_byok": True, "status_code": 500, "billed_usd": Decimal(0), "created_at": timezone.now()}
    spend(acme.pk, "1.10", day=today(), key_id=api.key.pk, **spent)
    adjust(acme, "-0.05", day=today())

    page = api.get("/api/v1/llm/usage/summary")

    assert page["group_by"] == "day"
    assert (page["from"], page["to"]) == ((today() - timedelta(days=29)).isoformat(), today().isoformat())
    assert [row["day"] for row in page["results"]] == [old.isoformat(), today().isoformat()]
    assert page["results"][1] == {
        "day": today().isoformat(),
        "requests": 1,
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "total_tokens": 120,
        "cost_usd": "1.05",
        "billed_usd": "-0.05",
        "avg_cost_usd": "1.05",
        "avg_latency_ms": 300,
        "byok_requests": 1,
        "errors": 1,
    }
    assert (page["count"], page["total"]["requests"], page["total"]["cost_usd"]) == (2, 2, "1.3")
    (by_key, _) = api.get("/api/v1/llm/usage/summary", group_by="key")["results"]
    assert (by_key["key"], by_key["key_name"], by_key["requests"]) == (str(api.key.pk), "reader", 2)
    assert [row["byok"] for row in api.get("/api/v1/llm/usage/summary", group_by="byok")["results"]] == [True, False]


def test_the_summary_is_paged_and_its_total_is_of_all_pages(api, acme):
    for number in range(5):
        spend(acme.pk, "1", day=today(), user_id=str(number))
    page = api.get("/api/v1/llm/usage/summary", group_by="user", page_size=2, page=3)
    assert (page["count"], len(page["results"]), page["next"], page["total"]["requests"]) == (5, 1, None, 5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[row for row in BAD if row[0] in {"from", "to"} and "T" not in row[1]],
        ("from", "2026-11-22T00:00:00Z"),
        ("group_by", "colour"),
        ("group_by", ""),
        ("group_by", "day\0"),
    ],
)
@pytest.mark.parametrize("path", ["/api/v1/llm/usage/summary", "/api/v1/admin/usage/summary"])
def test_a_bad_parameter_of_a_summary_is_a_400_that_names_it(api, path, name, value):
    caller = a_staff_api() if "admin" in path else api
    error = caller.refused(path, 400, **{name: value.encode("utf-8", "surrogatepass")})
    assert (error["param"], error["code"]) == (name, "invalid_value")


def test_a_span_the_wrong_way_round_is_refused(api):
    error = api.refused("/api/v1/llm/usage/summary", 400, **{"from": "2026-11-22", "to": "2026-11-21"})
    assert error["param"] == "from"


def test_the_first_and_the_last_days_of_the_calendar_are_answered(api):
    assert api.get("/api/v1/llm/usage/summary", to="0001-01-01")["from"] == "0001-01-01"
    assert api.get("/api/v1/llm/usage/summary", **{"from": "0001-01-01", "to": "9999-12-31"})["results"] == []


# --- me ---------------------------------------------------------------------------------------------------------------


def test_me_says_who_i_am_and_what_is_left(api, acme):
    row = spend(acme.pk, "0.40", day=today(), key_id=api.key.pk)
    me = api.get("/api/v1/me")
    assert me["tenant"] == {
        "id": str(acme.pk),
        "slug": "acme",
        "name": "Acme",
        "tier": "free",
        "timezone": "UTC",
    }
    assert (me["tier"], me["key"]["name"], me["key"]["scopes"]) == ("free", "reader", ["usage:read"])
    assert "digest" not in json.dumps(me)
    midnight = f"{today() + timedelta(days=1)}T00:00:00Z"
    ahead = [(Decimal(one.pop("expected")), one.pop("runs_out_at")) for one in me["limits"]]
    assert all(expected >= Decimal("0.4") for expected, _ in ahead)  # its formula: tests/billing/test_forecast.py
    assert me["limits"][0] == {
        "scope": "key",
        "period": "day",
        "limit": "1.5",
        "spent": "0.4",
        "held": "0",
        "left": "1.1",
        "resets_at": midnight,
    }
    monthly = me["limits"][3]
    assert (monthly["scope"], monthly["period"], monthly["limit"], monthly["left"]) == (
        "tenant",
        "month",
        "100",
        "99.6",
    )
    assert (me["limits"][1]["limit"], me["limits"][1]["left"], me["limits"][1]["spent"]) == (None, None, "0.4")
    assert row.budget_usd == Decimal("0.4")


# --- one request ------------------------------------------------------------------------------------------------------


def test_a_request_that_was_refused_reads_like_one_that_used_nothing(acme, globex):
    refused = RouteRefusal.objects.create(
        tenant_id=acme.pk,
        model="gpt-9",
        status_code=404,
        code="model_not_found",
        message="There is no such model.",
        decision={"rejections": []},
        created_at=timezone.now(),
    )
    found = find(tenant_id=acme.pk, request_id=str(refused.pk))
    assert (found.status, found.status_code, found.error_code) == ("refused", 404, "model_not_found")
    assert (found.model_name, found.total_tokens, found.decision) == ("gpt-9", 0, {"rejections": []})
    words = set()
    for tenant_id, request_id in (
        (globex.pk, str(refused.pk)),
        (acme.pk, str(uuid.uuid4())),
        (acme.pk, "nonsense\0"),
    ):
        with pytest.raises(NotFound) as missing:
            find(tenant_id=tenant_id, request_id=request_id)
        words.add(missing.value.message)
    assert len(words) == 1


def test_a_request_is_answered_with_its_decision_and_attempts(api, acme):
    row = spend(acme.pk, day=today(), decision={"reason": "cheapest"}, attempts=[{"status": 200}])
    found = api.get(f"/api/v1/llm/requests/{row.pk}")
    assert found["request_id"] == str(row.pk)
    assert (found["decision"], found["attempts"]) == ({"reason": "cheapest"}, [{"status": 200}])
    assert api.refused(f"/api/v1/llm/requests/{uuid.uuid4()}", 404)["code"] == "not_found"
    assert api.refused("/api/v1/llm/requests/nonsense", 404)["code"] == "not_found"


# --- who may ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slash", ["", "/"])
def test_each_url_answers_with_and_without_a_slash(api, slash):
    staff = a_staff_api()
    for path in TENANT_URLS:
        api.get(path + slash)
    for path in ADMIN_URLS:
        staff.get(path + slash)


def test_no_key_is_401_and_the_wrong_kind_of_key_403(api, acme):
    _, no_scope = a_key(acme, scopes=["completions"])
    staff = a_staff_api()
    for path in TENANT_URLS:
        assert Api().refused(path, 401)["code"] == "invalid_api_key"
        assert Api(no_scope).refused(path, 403)["code"] == "insufficient_scope"
        assert staff.refused(path, 403)["code"] == "permission_denied"
    for path in ADMIN_URLS:
        assert Api().refused(path, 401)["code"] == "invalid_api_key"
        assert api.refused(path, 403)["code"] == "permission_denied"


def test_staff_need_the_permission_to_view_usage():
    staff = a_staff_api(allowed=False)
    for path in ADMIN_URLS:
        assert staff.refused(path, 403)["code"] == "permission_denied"


def test_nothing_of_another_tenant_is_in_any_answer_whatever_is_asked(api, acme, globex):
    spend(acme.pk, day=today())
    for query in ({}, {"tenant": "globex"}, {"tenant": str(globex.pk)}, {"model": "globex-model"}):
        for path in TENANT_URLS:
            assert "globex" not in json.dumps(api.get(path, **query))
    for group_by in ("user", "model", "key"):
        rows = api.get("/api/v1/llm/usage/summary", group_by=group_by)
        assert "globex" not in json.dumps(rows)
        assert rows["total"]["requests"] == 1


# --- staff ------------------------------------------------------------------------------------------------------------


def test_staff_read_all_tenants_or_one(acme, globex):
    row = spend(acme.pk, "1", day=today(), lost_cost_usd=Decimal("0.5"))
    staff = a_staff_api()
    rows = staff.get("/api/v1/admin/usage")["results"]
    assert [row["tenant"] for row in rows] == ["acme", "globex"]
    for tenant in ("acme", str(acme.pk)):
        (only,) = staff.get("/api/v1/admin/usage", tenant=tenant)["results"]
        assert (only["request_id"], only["lost_cost_usd"]) == (str(row.pk), "0.5")
        assert staff.get("/api/v1/admin/usage/summary", tenant=tenant)["total"]["cost_usd"] == "1"
    assert staff.get("/api/v1/admin/usage/summary")["total"]["cost_usd"] == "100"
    assert staff.get("/api/v1/admin/usage", tenant=str(an_id()))["results"] == []
    for path in ADMIN_URLS:
        assert staff.refused(path, 400, tenant="nobody")["param"] == "tenant"
        assert staff.refused(path, 400, tenant="a\0")["param"] == "tenant"


def test_top_models_are_the_dearest_first(acme, globex):
    spend(acme.pk, "1", day=today())
    staff = a_staff_api(superuser=True)
    page = staff.get("/api/v1/admin/usage/top-models")
    assert [(row["model"], row["provider"], row["cost_usd"]) for row in page["results"]] == [
        ("openai/globex-model", "openai", "99"),
        ("openai/gpt-4o", "openai", "1"),
    ]
    assert page["count"] == 2
    assert len(staff.get("/api/v1/admin/usage/top-models", limit=1)["results"]) == 1
    for limit in ("0", "1001", "x", "9" * 2000):
        assert staff.refused("/api/v1/admin/usage/top-models", 400, limit=limit)["param"] == "limit"


def test_held_money_is_not_left(api, acme):
    spend(acme.pk, "0.40", day=today(), key_id=api.key.pk)
    from billing.models import BudgetWindow

    add(BudgetWindow.objects.filter(scope_kind="key", period="day"), "held", Decimal(1))
    daily = api.get("/api/v1/me")["limits"][0]
    assert (daily["held"], daily["left"]) == ("1", "0.1")
