"""What is worth an alert is found, once, for whom it concerns: budgets, and books that do not add up."""

import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connections

from billing import alerts
from billing.alert_models import Alert, AlertDelivery, AlertSubscription, Event
from billing.models import BudgetWindow
from billing.tasks import reconcile_ledger
from tenants.models import Tenant
from tests.billing.made import NOW, TODAY, a_key, a_tenant, add, an_id, spend

pytestmark = pytest.mark.django_db


def subscribe(tenant=None, **values):
    """A webhook told of everything it may be."""
    events = [Event.BUDGET_THRESHOLD, Event.BYOK_INVALID] if tenant else list(Event)
    fields = {"kind": "webhook", "target": "https://hooks.acme.org/x", "events": [str(event) for event in events]}
    return AlertSubscription.objects.create(**{"tenant": tenant, "created_by": "test"} | fields | values)


def find(now=NOW, event=Event.BUDGET_THRESHOLD):
    """Look once. How many alerts of this event are new."""
    before = Alert.objects.filter(event=event).count()
    alerts.raise_all(notices=alerts.about_budgets(limited=alerts.budgets(), now=now), now=now)
    return Alert.objects.filter(event=event).count() - before


def keys():
    return sorted(Alert.objects.values_list("key", flat=True))


def told(subscription):
    """The percentages this subscription was told of, in order."""
    return list(
        AlertDelivery.objects.filter(subscription=subscription, alert__event=Event.BUDGET_THRESHOLD)
        .order_by("alert__percent")
        .values_list("alert__percent", flat=True)
    )


def test_a_budget_is_told_of_at_50_80_and_100_percent_of_what_is_spent():
    acme = a_tenant(budget_limit_daily=Decimal(10))
    hook = subscribe(acme)
    spend(acme.pk, "4.9999999999")
    assert find() == 0
    spend(acme.pk, "0.0000000001")
    assert find() == 1
    alert = Alert.objects.get()
    assert alert.key == f"budget:tenant:{acme.pk}:day:{TODAY}:50:10"
    assert alert.title == "acme: the daily budget is 50 % spent"
    assert alert.data == {
        "scope": "tenant", "scope_id": str(acme.pk), "scope_name": "acme", "period": "day", "starts_on": "2026-11-22",
        "resets_at": "2026-11-23T00:00:00Z", "percent": 50, "limit_usd": "10", "spent_usd": "5",
    }  # fmt: skip
    spend(acme.pk, "3")
    assert find() == 1
    spend(acme.pk, "2")
    assert find() == 1
    assert told(hook) == [50, 80, 100]
    assert Alert.objects.get(percent=100).title == "acme: the daily budget is used up"


def test_what_is_held_and_not_spent_does_not_count():
    acme = a_tenant(budget_limit_daily=Decimal(10))
    spend(acme.pk, "1")
    add(BudgetWindow.objects.filter(period="day"), "held", Decimal(9))
    assert find() == 0


def test_each_threshold_that_one_request_passed_is_told_of():
    acme = a_tenant(budget_limit_monthly=Decimal("0.02"))
    spend(acme.pk, "0.05")
    assert find() == 3
    assert [alert.percent for alert in Alert.objects.order_by("percent")] == [50, 80, 100]
    assert {alert.window_starts_on for alert in Alert.objects.all()} == {TODAY.replace(day=1)}


def test_a_key_s_budget_is_told_of_with_its_name_and_a_revoked_key_s_is_not():
    acme = a_tenant()
    key, _ = a_key(acme, name="nightly", budget_limit_daily=Decimal(1), budget_limit_monthly=Decimal(100))
    gone, _ = a_key(acme, name="gone", budget_limit_daily=Decimal(1))
    type(gone).objects.filter(pk=gone.pk).update(revoked_at=NOW)
    for one in (key, gone):
        spend(acme.pk, "0.5", key_id=one.pk)
    assert find() == 1
    alert = Alert.objects.get()
    assert alert.title == "acme: the daily budget of the key “nightly” is 50 % spent"
    assert (alert.tenant_id, alert.about_id) == (acme.pk, key.pk)


def test_found_again_and_again_it_is_raised_once():
    acme = a_tenant(budget_limit_daily=Decimal(1))
    hook = subscribe(acme)
    spend(acme.pk, "1")
    assert [find(), find(), find(NOW + timedelta(minutes=1))] == [3, 0, 0]
    assert told(hook) == [50, 80, 100]


def test_a_new_day_is_a_new_window_and_the_last_minute_of_the_old_one_is_still_told_of():
    acme = a_tenant(budget_limit_daily=Decimal(1), timezone="Europe/Zurich")
    midnight = datetime(2026, 11, 22, 23, tzinfo=UTC)  # there
    yesterday, today = midnight.date(), midnight.date() + timedelta(days=1)
    spend(acme.pk, "0.5", day=yesterday)
    assert find(midnight + timedelta(minutes=11)) == 0  # too late: nobody needs to know any more
    assert find(midnight + timedelta(minutes=9)) == 1
    assert Alert.objects.get().data["resets_at"] == "2026-11-22T23:00:00Z"
    spend(acme.pk, "0.5", day=today)
    assert find(midnight + timedelta(hours=2)) == 1
    assert keys() == sorted(f"budget:tenant:{acme.pk}:day:{day}:50:1" for day in (yesterday, today))


def test_a_limit_lowered_below_what_is_spent_is_told_of_and_so_is_the_next_crossing_of_a_raised_one():
    acme = a_tenant(budget_limit_daily=Decimal(10))
    hook = subscribe(acme)
    spend(acme.pk, "4")
    assert find() == 0
    Tenant.objects.update(budget_limit_daily=Decimal(4))
    assert find() == 3
    Tenant.objects.update(budget_limit_daily=Decimal(8))
    assert find() == 1
    assert keys() == sorted(f"budget:tenant:{acme.pk}:day:{TODAY}:{rest}" for rest in ("50:4", "80:4", "100:4", "50:8"))
    assert told(hook) == [50, 50, 80, 100]


@pytest.mark.parametrize("limit", [None, Decimal(0)])
def test_no_limit_and_a_limit_of_nothing_that_nothing_was_spent_of_are_not_told_of(limit):
    acme = a_tenant(budget_limit_daily=limit)
    spend(acme.pk, "0")
    assert find() == 0


def test_a_subscription_s_own_thresholds_decide_what_it_is_told_of():
    acme, globex = (a_tenant(slug, budget_limit_daily=Decimal(1)) for slug in ("acme", "globex"))
    own, usual, platform = subscribe(acme, thresholds=[10, 80]), subscribe(acme), subscribe(thresholds=[25, 100])
    for tenant in (acme, globex):
        spend(tenant.pk, "0.3")
    find()
    assert (told(own), told(usual), told(platform)) == ([10], [], [25, 25])
    spend(acme.pk, "0.6")
    find()
    assert (told(own), told(usual), told(platform)) == ([10, 80], [50, 80], [25, 25])
    assert not Alert.objects.filter(tenant=globex, percent=10).exists()  # another tenant's wish


def test_only_whom_it_concerns_is_told():
    acme, globex = (a_tenant(slug, budget_limit_daily=Decimal(1)) for slug in ("acme", "globex"))
    mine, other = subscribe(acme), subscribe(globex)
    off, deaf = subscribe(acme, is_active=False), subscribe(acme, events=["byok.invalid"])
    platform, uninterested = subscribe(), subscribe(events=["provider.down"])
    spend(acme.pk, "0.5")
    assert find() == 1
    assert [told(each) for each in (mine, other, off, deaf, platform, uninterested)] == [[50], [], [], [], [50], []]


def test_who_subscribes_later_is_not_told_of_what_was():
    acme = a_tenant(budget_limit_daily=Decimal(1))
    spend(acme.pk, "0.5")
    find()
    late = subscribe(acme)
    assert find() == 0
    assert told(late) == []


def test_a_budget_that_will_not_last_is_told_of_once_with_the_moment_it_runs_out():
    acme = a_tenant(budget_limit_monthly=Decimal(50), timezone="Europe/Zurich")
    hook, deaf = subscribe(acme, events=["budget.forecast"]), subscribe(acme, events=["budget.threshold"])
    spend(acme.pk, "43")
    # 21 days and 13 hours have passed there; 43 USD in so long let 7 last for 84.16 hours.
    assert [find(event=Event.BUDGET_FORECAST), find(event=Event.BUDGET_FORECAST)] == [1, 0]
    alert = Alert.objects.get(event="budget.forecast")
    assert alert.key == f"forecast:tenant:{acme.pk}:month:2026-11-01:50"
    assert alert.title == "acme: the monthly budget will be used up on 2026-11-26 at about 01:09 at this pace"
    assert {name: alert.data[name] for name in ("limit_usd", "spent_usd", "runs_out_at", "period", "resets_at")} == {
        "limit_usd": "50", "spent_usd": "43", "runs_out_at": "2026-11-26T00:09:46Z", "period": "month",
        "resets_at": "2026-11-30T23:00:00Z",
    }  # fmt: skip
    assert Decimal(alert.data["expected_usd"]).quantize(Decimal("0.01")) == Decimal("59.88")
    assert [AlertDelivery.objects.filter(subscription=one, alert=alert).count() for one in (hook, deaf)] == [1, 0]
    Tenant.objects.update(budget_limit_monthly=Decimal(55))  # another limit, which will not last either
    assert find(event=Event.BUDGET_FORECAST) == 1
    Tenant.objects.update(budget_limit_monthly=Decimal(60))
    assert find(event=Event.BUDGET_FORECAST) == 0


@pytest.mark.parametrize(
    ("spent", "at", "raised"),
    [
        ("6", NOW, 1),
        ("5", NOW, 0),  # lasts exactly until the end
        ("10", NOW, 0),  # used up: told as that
        ("4", NOW.replace(hour=2, minute=23), 0),  # a tenth of the day has not passed
        ("4", NOW.replace(hour=2, minute=24), 1),
        ("9.9", NOW.replace(hour=0, minute=5) + timedelta(days=1), 0),  # the day is over
    ],
)
def test_a_forecast_is_told_of_while_it_can_be_acted_on(spent, at, raised):
    acme = a_tenant(budget_limit_daily=Decimal(10))
    spend(acme.pk, spent)
    assert find(at, event=Event.BUDGET_FORECAST) == raised


@pytest.mark.django_db(transaction=True)
def test_eight_runs_at_once_raise_each_alert_once_and_deliver_it_once():
    tenants = [a_tenant(f"t{number}", budget_limit_daily=Decimal(1)) for number in range(20)]
    hooks = [subscribe(tenant) for tenant in tenants]
    for tenant in tenants:
        spend(tenant.pk, "1")
    raised, failures, ready = [], [], threading.Barrier(8)

    def run():
        try:
            notices = alerts.about_budgets(limited=alerts.budgets(), now=NOW)
            ready.wait()  # all have found the same before any has written
            raised.append(alerts.raise_all(notices=notices, now=NOW))
        except BaseException as error:
            failures.append(error)
            raise
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sum(raised) == 60
    assert [told(hook) for hook in hooks] == [[50, 80, 100]] * 20


def test_finding_asks_the_same_few_questions_however_many_tenants(django_assert_num_queries):
    for number in range(30):
        tenant = a_tenant(f"t{number}", budget_limit_daily=Decimal(1))
        key, _ = a_key(tenant, budget_limit_daily=Decimal(1))
        subscribe(tenant, thresholds=[number + 1])
        spend(tenant.pk, "0.6", key_id=key.pk)
    find()
    with django_assert_num_queries(5):
        assert alerts.about_budgets(limited=alerts.budgets(), now=NOW) == []


@pytest.mark.django_db(transaction=True)
def test_books_that_do_not_add_up_are_told_of_once_a_day():
    acme = a_tenant()
    platform, theirs = subscribe(), subscribe(acme)
    spend(acme.pk, "1")
    assert reconcile_ledger() == []
    assert not Alert.objects.exists()
    add(BudgetWindow.objects.filter(period="day"), "spent", Decimal(1))
    assert len(reconcile_ledger()) == 1
    assert len(reconcile_ledger()) == 1
    alert = Alert.objects.get()
    assert (alert.event, alert.tenant, alert.title) == (
        "reconcile.failed", None, "The money does not add up: 1 figure differs",
    )  # fmt: skip
    assert alert.data == {
        "differences": 1, "first": [f"spent of tenant:{acme.pk}:day:{TODAY}: expected 1, found 2"],
    }  # fmt: skip
    assert AlertDelivery.objects.filter(subscription=platform).count() == 1
    assert not AlertDelivery.objects.filter(subscription=theirs).exists()


def test_a_fault_is_told_of_once_while_it_lasts_and_again_when_it_comes_back():
    thing = an_id()
    fault = alerts.Fault(about_id=thing, title="broken")
    assert alerts.begin(event=Event.PROVIDER_DOWN, faults=[fault], now=NOW) == 1
    assert alerts.begin(event=Event.PROVIDER_DOWN, faults=[fault], now=NOW) == 0
    first = alerts.lasting(Event.PROVIDER_DOWN)[thing]
    alerts.end(alerts=[first], now=NOW)
    assert alerts.lasting(Event.PROVIDER_DOWN) == {}
    assert alerts.begin(event=Event.PROVIDER_DOWN, faults=[fault], now=NOW) == 1
    assert keys() == sorted([f"provider.down:{thing}:first", f"provider.down:{thing}:{first.pk}"])
