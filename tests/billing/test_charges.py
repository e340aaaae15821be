"""A month's statement is the same bytes from usage rows, roll-ups, and both; own prices and prepaid credit."""

import csv
import io
import json
import random
import uuid
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal

import pytest
from django.db import transaction

from billing import posting, reconcile, rollup, rows
from billing.models import RolledDay, UsageRecord
from billing.rollup_models import DailyCharge
from billing.statements import closing, printed, sheet
from tests.billing.made import a_tenant, adjust, spend
from tests.billing.stated import AFTER, MONTH, line

pytestmark = pytest.mark.django_db

UNIT = Decimal("0.0000000001")
PRICES = ("2.5", "10", "0.00005", "0.3333333333", "12.5")


def cost_of(lines):
    exact = sum((Decimal(one["unit_price_usd"]) * one["quantity"] / one["unit_quantity"] for one in lines), Decimal(0))
    return exact.quantize(UNIT, ROUND_HALF_UP)


def some_lines(dice):
    meters = dice.sample(["input", "output", "cache_read", "reasoning", "request"], dice.randrange(4))
    lines = [
        line(meter, dice.choice([0, 1, 7, 10**5]), dice.choice(PRICES), priced_as=dice.choice([None, "input"]),
             per=dice.choice([1, 1000, 1_000_000]))
        for meter in meters
    ]  # fmt: skip
    tier = dice.choice([{}, {}, {"service_tier": "flex"}])
    return [{**one, **tier} for one in lines]


def some_request(dice, tenant):
    """Any usage row that the ledger may write."""
    lines = some_lines(dice)
    cost, own_key = cost_of(lines) if lines else Decimal(dice.randrange(10**9)).scaleb(-10), dice.random() < 0.3
    billed, terms = (cost * Decimal("1.1")).quantize(UNIT, ROUND_HALF_UP), {"markup_percent": "10"}
    if dice.random() < 0.4 and not own_key:
        own = some_lines(dice)
        terms = {"price_override": str(uuid.UUID(int=7)), **({"lines": own} if own else {})}
        billed = cost_of(own) if own else Decimal(dice.randrange(10**9)).scaleb(-10)
    key, config = dice.choice([None, 1, 2]), dice.choice([None, 3])
    return spend(
        tenant.pk, cost, day=MONTH + timedelta(days=dice.randrange(31)), billed_usd=billed, terms=terms,
        price_lines=lines, used_byok=own_key, is_prepaid=dice.random() < 0.5, prompt_tokens=dice.randrange(10**6),
        cached_tokens=dice.randrange(100), lost_cost_usd=Decimal(dice.randrange(9)).scaleb(-10),
        model_name=dice.choice(["gpt-4o", "gpt-5"]), key_id=key and uuid.UUID(int=key),
        key_name=(key and dice.choice(["alpha", "Ålpha", "_"])) or "", config_id=config and uuid.UUID(int=config),
        config_name=(config and dice.choice(["main", "Main"])) or "", user_id=dice.choice("ab"),
    )  # fmt: skip


def text_of(tenant):
    return closing.document(tenant=tenant, month=MONTH, now=AFTER)


def check_sums(document):
    """What the document's own documentation says adds up."""
    for row in (document["totals"], *document["days"], *document["keys"], *document["configs"], *document["models"]):
        of = {name: Decimal(value) for name, value in row.items() if name.endswith("_usd")}
        at_list = of["list_usd"] - of["own_key_list_usd"] - of["own_price_list_usd"]
        owed = at_list + of["own_price_usd"] + of["markup_usd"] + of["own_key_fee_usd"] + of["adjustments_usd"]
        assert of["billed_usd"] == owed == of["prepaid_usd"] + of["due_usd"]
    for row in (*document["models"], *document["details"]):
        for total, prefix in (("list_usd", ""), ("own_price_usd", "own_price_")):
            lines = sum((Decimal(one["amount_usd"]) for one in row[f"{prefix}lines"]), Decimal(0))
            rest = Decimal(row[f"{prefix}unitemised_usd"]) + Decimal(row[f"{prefix}rounding_usd"])
            assert lines + rest == Decimal(row[total])
    said = list(csv.DictReader(io.StringIO("".join(sheet.rows(document)))))
    for column, total in (("list_usd", "cost_usd"), ("billed_usd", "billed_usd"), ("prepaid_usd", "prepaid_usd")):
        assert sum(Decimal(row[column] or 0) for row in said) == Decimal(document["totals"][total]), column


def test_rows_roll_ups_and_both_give_the_same_bytes():
    seed = random.randrange(10**6)
    dice = random.Random(seed)
    acme, globex = a_tenant(), a_tenant("globex")
    for number in range(150):
        tenant = dice.choice([acme, acme, globex])
        some_request(dice, tenant)
        if number % 10 == 0:
            adjust(tenant, "-0.1", day=MONTH + timedelta(days=dice.randrange(31)), is_prepaid=dice.random() < 0.5)
    from_rows = [text_of(tenant) for tenant in (acme, globex)]
    for text in from_rows:
        check_sums(json.loads(text))
    days = rollup.days_with_rows()
    dice.shuffle(days)
    for day in days[::2]:
        rollup.roll_up_day(day=day, now=AFTER)
    assert [text_of(tenant) for tenant in (acme, globex)] == from_rows, f"seed {seed}"
    RolledDay.objects.filter(pk=days[0]).update(charges=None)  # rolled up by an older version: still read from rows
    DailyCharge.objects.filter(billing_day=days[0]).delete()
    assert [text_of(tenant) for tenant in (acme, globex)] == from_rows, f"seed {seed}"
    rollup.roll_up(now=AFTER)
    UsageRecord.objects.all().delete()
    assert [text_of(tenant) for tenant in (acme, globex)] == from_rows, f"seed {seed}"


@pytest.mark.django_db(transaction=True)
def test_a_key_and_a_config_have_the_name_of_the_last_request_of_their_last_day():
    """By request id, whatever the alphabet, the order of writing and the models say."""
    acme, key, config = a_tenant(), uuid.UUID(int=1), uuid.UUID(int=2)

    def request(number, day, name, **fields):
        spend(acme.pk, "1", day=day, id=uuid.UUID(int=number), key_id=key, key_name=name, config_id=config,
              config_name=f"of {name}", **fields)  # fmt: skip

    def named():
        document = json.loads(text_of(acme))
        return [document[kind][0]["name"] for kind in ("keys", "configs")]

    second = MONTH + timedelta(days=1)
    request(9, MONTH, "zz")
    request(0x2F, second, "alpha")
    request(0x1F, second, "zeta")
    request(0x2E, second, "yankee", model_name="gpt-5")
    assert named() == ["alpha", "of alpha"]
    request(0xA0, second, "", model_name="gpt-5")
    assert named() == ["", "of "]
    request(0xA1, second, "Beta", provider_slug="anthropic")
    from_rows = text_of(acme)
    rollup.roll_up(now=AFTER)
    assert text_of(acme) == from_rows
    assert named() == ["Beta", "of Beta"]
    assert set(DailyCharge.objects.filter(billing_day=second).values_list("key_name", flat=True)) == {"Beta"}
    assert reconcile.check(now=AFTER) == []
    DailyCharge.objects.filter(billing_day=second, provider_slug="anthropic").update(key_name="zeta")
    assert {one.figure for one in reconcile.check(now=AFTER)} == {f"charges {second}"}


def test_a_late_row_is_in_the_draft_at_once():
    acme = a_tenant()
    spend(acme.pk, "1", day=MONTH)
    rollup.roll_up(now=AFTER)
    with transaction.atomic():
        spend(acme.pk, "2", day=MONTH)
        posting.reopen(rows.cursor_of(), MONTH, AFTER)
    assert json.loads(text_of(acme))["totals"]["list_usd"] == "3"


def test_only_closed_days_have_charges():
    acme = a_tenant()
    for day in (AFTER.date(), MONTH):
        spend(acme.pk, "1", day=day)
    rollup.roll_up(now=AFTER)
    assert list(DailyCharge.objects.values_list("billing_day", flat=True)) == [MONTH]


def test_own_prices_stand_beside_the_list_price_and_prepaid_credit_beside_what_is_due():
    acme = a_tenant()
    at_list, at_own = [line("input", 1000, "2.5")], [line("input", 1000, "2")]
    own = {"price_override": str(uuid.UUID(int=7)), "lines": at_own}
    for is_prepaid in (True, False):
        spend(acme.pk, "0.0025", day=MONTH, billed_usd=Decimal("0.002"), price_lines=at_list, terms=own,
              is_prepaid=is_prepaid)  # fmt: skip
    spend(acme.pk, "0.0025", day=MONTH, billed_usd=Decimal("0.00275"), price_lines=at_list)
    swept = {"price_override": str(uuid.UUID(int=7))}
    spend(acme.pk, "0.01", day=MONTH, billed_usd=Decimal("0.008"), terms=swept, status="expired")
    adjust(acme, "-0.001", day=date(2026, 10, 31), is_prepaid=True, cost_total_usd=Decimal(0))
    document = json.loads(text_of(acme))
    check_sums(document)
    wanted = {
        "list_usd": "0.0175", "own_price_list_usd": "0.015", "own_price_usd": "0.012", "markup_usd": "0.00025",
        "adjustments_usd": "-0.001", "billed_usd": "0.01375", "prepaid_usd": "0.001", "due_usd": "0.01275",
    }  # fmt: skip
    assert {name: document["totals"][name] for name in wanted} == wanted
    gpt = next(row for row in document["models"] if row["model"] == "gpt-4o")
    assert [(one["quantity"], one["unit_price_usd"], one["amount_usd"]) for one in gpt["lines"]] == [
        (3000, "2.5", "0.0075")
    ]
    assert [(one["quantity"], one["unit_price_usd"], one["amount_usd"]) for one in gpt["own_price_lines"]] == [
        (2000, "2", "0.004")
    ]
    assert (gpt["unitemised_usd"], gpt["own_price_unitemised_usd"]) == ("0.01", "0.008")
    said = [(row["kind"], row["billed_usd"]) for row in csv.DictReader(io.StringIO("".join(sheet.rows(document))))]
    assert said == [
        ("usage", "0.0075"), ("unitemised", "0.01"), ("own_price_list", "-0.015"), ("own_price", "0.004"),
        ("own_price_unitemised", "0.008"), ("markup", "0.00025"), ("adjustment", "-0.001"),
    ]  # fmt: skip
    page = printed.page(document, sha256=None)
    for words in ("Replaced by your own prices", "Input tokens, at your own price", "Paid from prepaid credit"):
        assert words in page
    assert "-$0.001</td>" in page
    assert 'Due, USD</th><td class="num">$0.01275' in page
