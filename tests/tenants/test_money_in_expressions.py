"""Money in an UPDATE's expression is exact on both databases, or refused."""

from decimal import Decimal

import pytest
from django.db import transaction
from django.db.models import F, Value

from billing.models import BudgetWindow
from tenants.fields import UsdField

pytestmark = pytest.mark.django_db


@pytest.fixture
def window() -> BudgetWindow:
    return BudgetWindow.objects.create(
        id="w", scope_kind="key", scope_id="00000000-0000-0000-0000-000000000001", period="day",
        starts_on="2026-01-01", spent=Decimal(2), held=Decimal("0.5"),
    )  # fmt: skip


def test_a_bare_number_is_refused_and_changes_nothing(window: BudgetWindow) -> None:
    with pytest.raises(TypeError, match="output_field=UsdField"), transaction.atomic():
        BudgetWindow.objects.update(spent=F("spent") + Decimal(1))
    window.refresh_from_db()
    assert window.spent == Decimal(2)


def test_a_number_that_says_it_is_money_is_added_exactly(window: BudgetWindow) -> None:
    BudgetWindow.objects.update(spent=F("spent") + Value(Decimal("1.0000000001"), output_field=UsdField()))
    window.refresh_from_db()
    assert window.spent == Decimal("3.0000000001")


def test_columns_of_money_add_up(window: BudgetWindow) -> None:
    BudgetWindow.objects.update(spent=F("spent") + F("held"))
    window.refresh_from_db()
    assert window.spent == Decimal("2.5")
