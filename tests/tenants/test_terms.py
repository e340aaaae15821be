"""Markup and fee by tier; a tenant's own wins, also one of nothing."""

import importlib
from decimal import Decimal

import pytest
from django.apps import apps

from llm.engine import tenant_state
from tenants import terms
from tenants.models import AuditEvent, Tenant, TierTerms
from tests import cast
from tests.conftest import Api


@pytest.fixture
def marked_up(db: None) -> None:
    """Professional: 10 % and a fee of 2 %."""
    TierTerms.objects.update_or_create(
        tier="professional", defaults={"markup_percent": Decimal(10), "byok_fee_percent": Decimal(2)}
    )


def shares(tenant: Tenant) -> tuple[Decimal, Decimal]:
    state = tenant_state.load(tenant.pk)
    return state.markup, state.byok_fee


def test_a_tenant_owes_what_its_tier_has_unless_it_has_its_own(marked_up: None) -> None:
    as_its_tier, own = cast.make_tenant("acme"), cast.make_tenant("globex", markup_percent=Decimal("7.5"))
    nothing = cast.make_tenant("initech", markup_percent=Decimal(0), byok_fee_percent=Decimal(1))
    other_tier = cast.make_tenant("hooli", tier="free")
    assert [shares(one) for one in (as_its_tier, own, nothing, other_tier)] == [
        (Decimal("0.1"), Decimal("0.02")), (Decimal("0.075"), Decimal("0.02")), (0, Decimal("0.01")), (0, 0),
    ]  # fmt: skip


def test_a_tier_that_nobody_has_set_adds_nothing(db: None) -> None:
    TierTerms.objects.all().delete()
    assert shares(cast.make_tenant()) == (0, 0)
    assert list(terms.of_tiers()) == ["free", "starter", "professional", "enterprise"]


def test_staff_set_a_tiers_terms_and_every_change_is_audited(staff: Api, acme: Tenant) -> None:
    status, read = staff.patch("admin/tiers/professional", {"markup_percent": "12.5"})
    assert (status, read) == (200, {"tier": "professional", "markup_percent": "12.5", "byok_fee_percent": "0"})
    assert [row["tier"] for row in staff.get("admin/tiers")[1]["results"]] == [
        "free", "starter", "professional", "enterprise",
    ]  # fmt: skip
    event = AuditEvent.objects.get(action="update")
    assert (event.object_type, event.before, event.after) == (
        "tenants.TierTerms", {"markup_percent": "0.0000"}, {"markup_percent": "12.5000"},
    )  # fmt: skip
    assert shares(acme) == (Decimal("0.125"), 0)
    assert staff.patch("admin/tiers/professional", {"markup_percent": "-1"})[0] == 400
    assert staff.patch("admin/tiers/professional", {"tier": "free"})[0] == 400
    assert staff.put("admin/tiers/professional", {"markup_percent": "1"})[0] == 400
    assert staff.get("admin/tiers/platinum")[0] == 404


def test_the_api_reads_what_is_in_force_and_null_gives_it_back_to_the_tier(
    marked_up: None, staff: Api, acme: Tenant
) -> None:
    _, read = staff.get("admin/tenants/acme")
    assert (read["markup_percent"], read["markup_source"], read["byok_fee_percent"]) == ("10", "tier", "2")
    _, read = staff.patch("admin/tenants/acme", {"markup_percent": "0"})
    assert (read["markup_percent"], read["markup_source"], read["byok_fee_source"]) == ("0", "tenant", "tier")
    _, read = staff.patch("admin/tenants/acme", {"markup_percent": None})
    assert (read["markup_percent"], read["markup_source"]) == ("10", "tier")


def test_what_was_read_and_is_sent_back_stays_the_tiers(marked_up: None, staff: Api, acme: Tenant) -> None:
    _, read = staff.get("admin/tenants/acme")
    status, written = staff.put("admin/tenants/acme", {**read, "name": "Acme Ltd"})
    assert (status, written["markup_source"], written["name"]) == (200, "tier", "Acme Ltd")
    assert Tenant.objects.get().markup_percent is None


def test_the_list_of_tenants_asks_for_the_tiers_once(
    marked_up: None, staff: Api, django_assert_max_num_queries: object
) -> None:
    for number in range(5):
        cast.make_tenant(f"t{number}")
    staff.get("admin/tenants")
    with django_assert_max_num_queries(3):  # type: ignore[operator]
        _, page = staff.get("admin/tenants")
    assert {row["markup_percent"] for row in page["results"]} == {"10"}


def test_tenants_that_had_no_markup_follow_their_tier_after_the_migration(db: None) -> None:
    zero, own = cast.make_tenant("acme", markup_percent=Decimal(0)), cast.make_tenant("b", markup_percent=Decimal(3))
    importlib.import_module("tenants.migrations.0002_terms").as_the_tier_has_it(apps, None)
    zero.refresh_from_db()
    own.refresh_from_db()
    assert (zero.markup_percent, own.markup_percent) == (None, 3)
