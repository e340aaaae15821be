"""The price feed becomes proposals, never prices: once for each thing it says, and never over what staff set."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command

from llm.catalog import price_sync, prices, proposals, recosting, shipped
from llm.catalog.feed import FeedModel, FeedPrice
from llm.catalog.loader import load_catalog
from llm.catalog.prices import PriceChange
from llm.catalog.proposals import Decision
from llm.models import LLMModel, PricePolicy, PriceProposal, PriceVersion
from tenants import audit
from tenants.errors import Conflict
from tenants.models import AuditEvent, Tenant
from tests import cast
from tests.admin import rows

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
GRACE = audit.Actor(kind="user", id="1", label="grace")


class FakeFeed:
    """A feed that says of each model what it was told to."""

    def __init__(self) -> None:
        self.said: dict[str, dict[str, str]] = {}
        self.known: tuple[shipped.KnownDifference, ...] = ()

    def says(self, model_id: str, **meters: str) -> None:
        self.said[model_id] = meters

    def lookup(self, provider: str, model_id: str) -> FeedModel | None:
        if model_id not in self.said:
            return None
        priced = tuple(FeedPrice(meter, Decimal(usd)) for meter, usd in self.said[model_id].items())
        return FeedModel(provider, model_id, None, priced, is_exact=True)

    def sync(self, **options: Any) -> dict[str, str]:
        """What became of each model."""
        source = price_sync.Feed(lookup=self.lookup, version="feed 7", known_differences=self.known)
        found = price_sync.sync(feed=source, **{"now": NOW, **options})
        return {one.model.partition("/")[2]: one.outcome for one in found}


@pytest.fixture
def feed() -> FakeFeed:
    return FakeFeed()


@pytest.fixture
def model(db: None) -> LLMModel:
    found = cast.make_model(cast.make_provider("openai"), "gpt-4o", input=None)
    cast.make_price(found, source="catalog", input="2.50", output="10")
    return found


def decide(verb: Any, **rest: Any) -> None:
    waiting = PriceProposal.objects.filter(state="pending").values_list("pk", flat=True)
    decision = Decision(reason="looked at it", person_id=None, **rest)
    verb(ids=list(waiting), decision=decision, actor=GRACE, now=NOW)


def states() -> list[str]:
    return list(PriceProposal.objects.order_by("model__model_id", "version__number").values_list("state", flat=True))


def now_is(model: LLMModel) -> Decimal | None:
    version = prices.version_at(LLMModel.objects.get(pk=model.pk), NOW + timedelta(days=1))
    return None if version is None else version.base_price("input")


def test_what_differs_is_proposed_and_nothing_changes(feed: FakeFeed, model: LLMModel) -> None:
    feed.says("gpt-4o", input="3", output="9", cache_read="1.5")
    assert feed.sync() == {"gpt-4o": "proposed"}
    row = PriceProposal.objects.get()
    assert row.changes == [
        {"name": "cache_read", "old": None, "new": "1.5", "percent": None},
        {"name": "input", "old": "2.5", "new": "3", "percent": "20"},
        {"name": "output", "old": "10", "new": "9", "percent": "-10"},
    ]
    assert (row.largest_percent, row.source, row.source_version) == (Decimal(20), "feed", "feed 7")
    assert (row.version.status, now_is(model)) == ("proposed", Decimal("2.5"))
    assert AuditEvent.objects.filter(action="propose", actor_label="sync_prices").count() == 1


def test_the_same_feed_makes_no_second_proposal(feed: FakeFeed, model: LLMModel) -> None:
    feed.says("gpt-4o", input="3", output="10")
    feed.sync()
    before = (PriceVersion.objects.count(), AuditEvent.objects.count())
    assert feed.sync() == {"gpt-4o": "waiting"}
    assert (states(), PriceVersion.objects.count(), AuditEvent.objects.count()) == (["pending"], *before)


def test_a_feed_that_moves_on_overtakes_its_own_proposal(feed: FakeFeed, model: LLMModel) -> None:
    for usd in ("3", "3.50"):
        feed.says("gpt-4o", input=usd, output="10")
        feed.sync()
    assert states() == ["superseded", "pending"]
    feed.says("gpt-4o", input="2.50", output="10")  # it agrees with us after all
    assert feed.sync() == {"gpt-4o": "confirmed"}
    assert states() == ["superseded", "superseded"]
    assert PriceVersion.objects.get(number=1).confirmed_at == NOW


def test_what_was_rejected_comes_again_only_when_the_feed_changes(feed: FakeFeed, model: LLMModel) -> None:
    feed.says("gpt-4o", input="3", output="10")
    feed.sync()
    decide(proposals.reject)
    assert feed.sync(now=NOW + timedelta(days=1)) == {"gpt-4o": "rejected before"}
    feed.says("gpt-4o", input="3.10", output="10")
    assert feed.sync(now=NOW + timedelta(days=2)) == {"gpt-4o": "proposed"}
    assert states() == ["rejected", "pending"]


def test_an_approved_one_scheduled_for_later_is_not_proposed_again(feed: FakeFeed, model: LLMModel) -> None:
    feed.says("gpt-4o", input="3", output="10")
    feed.sync()
    decide(proposals.approve, effective_from=NOW + timedelta(days=9))
    assert feed.sync() == {"gpt-4o": "confirmed"}
    assert (states(), now_is(model)) == (["approved"], Decimal("2.5"))


def test_prices_that_staff_set_are_never_overwritten(feed: FakeFeed, model: LLMModel) -> None:
    components = prices.flat(input_usd=Decimal(2), output_usd=Decimal(8), cached_usd=None)
    feed.says("gpt-4o", input="3", output="10")
    feed.sync()
    prices.set_price(model=model, change=PriceChange(components=components), actor=GRACE, now=NOW)
    with pytest.raises(Conflict) as late:  # it was proposed when the price was still the catalog's
        decide(proposals.approve, confirm=True)
    assert (late.value.code, now_is(model)) == ("price_is_manual", Decimal(2))
    assert feed.sync() == {"gpt-4o": "informational"}
    row = PriceProposal.objects.get(state="pending")
    assert row.is_informational
    with pytest.raises(Conflict) as refused:
        decide(proposals.approve, confirm=True)
    assert (refused.value.code, now_is(model)) == ("price_is_manual", Decimal(2))
    decide(proposals.reject)
    assert feed.sync() == {"gpt-4o": "rejected before"}


def test_an_unpriced_model_gets_its_first_price_proposed(feed: FakeFeed, model: LLMModel) -> None:
    bare = cast.make_model(model.provider, "bare", input=None)
    feed.says("bare", input="1", output="2")
    assert feed.sync() == {"bare": "proposed", "gpt-4o": "not in the feed"}
    assert PriceProposal.objects.get().largest_percent is None
    decide(proposals.approve)
    assert now_is(bare) == 1


def test_what_could_not_bill_is_said_and_not_proposed(feed: FakeFeed, model: LLMModel) -> None:
    feed.says("gpt-4o", input="3")
    assert feed.sync() == {"gpt-4o": "unusable"}
    feed.said["gpt-4o"] = {}  # "free" by the feed's silence is not free
    assert feed.sync() == {"gpt-4o": "unusable"}
    assert states() == []


def test_an_explained_difference_is_ours_to_keep(feed: FakeFeed, model: LLMModel) -> None:
    feed.known = (shipped.KnownDifference("openai/*", "price.output", "the feed is late"),)
    feed.says("gpt-4o", input="2.50", output="99")
    assert feed.sync() == {"gpt-4o": "confirmed"}
    feed.says("gpt-4o", input="3", output="99")
    feed.sync()
    assert [one["name"] for one in PriceProposal.objects.get().changes] == ["input"]


def test_the_shipped_catalog_agrees_with_the_feed_so_nothing_is_proposed(db: None) -> None:
    load_catalog(now=NOW)
    said = StringIO()
    call_command("sync_prices", stdout=said)
    assert PriceProposal.objects.count() == 0
    assert PriceVersion.objects.filter(confirmed_at__isnull=False).count() > 200
    assert " confirmed, " in said.getvalue()


def test_a_dry_run_says_it_and_writes_nothing(db: None) -> None:
    load_catalog(now=NOW)
    model = LLMModel.objects.get(provider__slug="openai", model_id="gpt-4o")
    PriceVersion._base_manager.filter(model=model).delete()
    cast.make_price(model, source="catalog", input="2", output="10")
    said = StringIO()
    call_command("sync_prices", "--dry-run", stdout=said)
    assert "openai/gpt-4o: proposed: " in said.getvalue()
    assert "input 2 -> 2.5 (+25 %)" in said.getvalue()
    assert PriceProposal.objects.count() == PriceVersion.objects.filter(confirmed_at__isnull=False).count() == 0
    call_command("sync_prices", stdout=StringIO())
    assert PriceProposal.objects.count() == 1


# --- the band ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("up", "down", "said", "outcome"),
    [
        (None, None, {"input": "2.51", "output": "10"}, "proposed"),
        ("10", None, {"input": "2.75", "output": "10"}, "approved by the band"),
        ("10", None, {"input": "2.7500000001", "output": "10"}, "proposed"),
        ("10", None, {"input": "2.50", "output": "9.99"}, "proposed"),
        (None, "5", {"input": "2.50", "output": "9.5"}, "approved by the band"),
        ("10", "5", {"input": "2.6", "output": "9.4"}, "proposed"),
        ("10", "5", {"input": "2.50", "output": "10", "cache_read": "1"}, "proposed"),
        ("400", "100", {"input": "12.50", "output": "10"}, "approved by the band"),
        ("400", "100", {"input": "12.51", "output": "10"}, "proposed"),
        ("400", "100", {"input": "0", "output": "10"}, "proposed"),
    ],
)
def test_the_band_that_staff_set_lets_through_what_is_within_it(
    feed: FakeFeed, model: LLMModel, up: str | None, down: str | None, said: dict[str, str], outcome: str
) -> None:
    PricePolicy.objects.create(auto_approve_up_percent=up, auto_approve_down_percent=down)
    feed.says("gpt-4o", **said)
    assert feed.sync() == {"gpt-4o": outcome}
    assert states() == ["pending" if outcome == "proposed" else "approved"]
    if outcome != "proposed":
        event = AuditEvent.objects.get(action="approve", object_type="llm.PriceProposal")
        assert (event.actor_label, event.reason) == ("auto-approve band", "within the band that staff set")
        assert feed.sync() == {"gpt-4o": "confirmed"}


def test_the_band_decides_nothing_where_everything_needs_two(feed: FakeFeed, model: LLMModel, settings: Any) -> None:
    settings.PRICE_FOUR_EYES = "all"
    PricePolicy.objects.create(auto_approve_up_percent=50, auto_approve_down_percent=50)
    feed.says("gpt-4o", input="2.60", output="10")
    assert (feed.sync(), now_is(model)) == ({"gpt-4o": "proposed"}, Decimal("2.5"))


# --- re-costing -------------------------------------------------------------------------------------------------------


def used(tenant: Tenant, model: LLMModel, cost: str, *counts: tuple[str, int], **values: Any) -> None:
    lines = [{"meter": meter, "quantity": quantity} for meter, quantity in counts]
    fields = {"price_lines": lines, "cost_total_usd": Decimal(cost), "model_name": model.model_id,
              "created_at": NOW - timedelta(days=3), "billing_day": (NOW - timedelta(days=3)).date()}  # fmt: skip
    rows.usage(tenant, model, **{**fields, **values})


def test_thirty_days_are_recosted_request_by_request_and_tenant_by_tenant(
    feed: FakeFeed, model: LLMModel, acme: Tenant, globex: Tenant
) -> None:
    used(acme, model, "0.0075", ("input", 1000), ("output", 500))
    used(acme, model, "0", ("input", 1), prompt_tokens=1)
    used(globex, model, "0.0065", ("input", 200), ("cache_read", 800), ("output", 500), ("request", 1))
    used(globex, model, "0.5", prompt_tokens=9)  # swept after a crash: no lines
    used(globex, model, "7", ("input", 1000), created_at=NOW - timedelta(days=31))  # too old
    used(globex, cast.make_model(model.provider, "other"), "7", ("input", 1000))
    feed.says("gpt-4o", input="3", output="12", cache_read="0.1")
    feed.sync()
    row = PriceProposal.objects.get()
    assert row.impact is not None
    # acme 1000 x 3e-6 + 500 x 12e-6 = 0.009, and 3e-6; globex 200 x 3e-6 + 800 x 1e-7 + 0.006 = 0.00668, and 0.5.
    assert {name: row.impact[name] for name in ("requests", "old_usd", "new_usd", "unchanged_requests")} == {
        "requests": 4, "old_usd": "0.514", "new_usd": "0.515683", "unchanged_requests": 1,
    }  # fmt: skip
    by_tenant = {one["tenant"]: (one["requests"], one["old_usd"], one["new_usd"]) for one in row.impact["tenants"]}
    assert by_tenant == {"acme": (2, "0.0075", "0.009003"), "globex": (2, "0.5065", "0.50668")}
    assert row.impact_usd == Decimal("0.001683")


def test_each_request_is_rounded_by_itself_as_a_bill_is(model: LLMModel, acme: Tenant) -> None:
    version = PriceVersion.objects.get()
    PriceVersion._base_manager.filter(pk=version.pk).update(status="draft")
    version.refresh_from_db()
    for part in version.components.all():
        part.unit_price_usd = Decimal("0.00005")  # five tokens are 2.5e-10, which rounds half up to 3e-10
        part.save()
    for _ in range(10):
        used(acme, model, "0", ("input", 5), prompt_tokens=5)
    found = recosting.impact(model=model, version=PriceVersion.objects.get(), now=NOW)
    assert found is not None
    assert found.total.new == Decimal("30e-10")


def test_a_long_month_is_left_to_the_job(
    feed: FakeFeed, model: LLMModel, acme: Tenant, monkeypatch: pytest.MonkeyPatch,
    django_assert_max_num_queries: Callable[..., Any],
) -> None:  # fmt: skip
    monkeypatch.setattr(recosting, "AT_ONCE", 1)
    for _ in range(2):
        used(acme, model, "0.0025", ("input", 1000))
    components = prices.flat(input_usd=Decimal(3), output_usd=Decimal(10), cached_usd=None)
    change = PriceChange(components=components, second_person=True)
    prices.set_price(model=model, change=change, actor=GRACE, now=NOW)
    assert PriceProposal.objects.get().impact is None
    assert proposals.recost_waiting(now=NOW) == 1
    assert PriceProposal.objects.get().impact_usd == Decimal("0.001")
    assert proposals.recost_waiting(now=NOW) == 0


def test_a_sync_that_dies_after_one_model_is_finished_by_the_next(feed: FakeFeed, model: LLMModel) -> None:
    cast.make_price(cast.make_model(model.provider, "zeta", input=None), source="catalog", input="1", output="1")
    feed.says("gpt-4o", input="3", output="10")
    feed.says("zeta", input="2", output="1")
    healthy = feed.lookup

    def dies(provider: str, model_id: str) -> FeedModel | None:
        if model_id == "zeta":
            raise KeyboardInterrupt
        return healthy(provider, model_id)

    feed.lookup = dies  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        feed.sync()
    assert states() == ["pending"]
    feed.lookup = healthy  # type: ignore[method-assign]
    assert feed.sync() == {"gpt-4o": "waiting", "zeta": "proposed"}
    assert states() == ["pending", "pending"]
