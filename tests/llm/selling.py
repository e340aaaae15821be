"""Requests as they are billed, through the ledger, at the price in force then: what correction runs correct."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Any

from billing import money, pricing
from billing.models import UsageRecord
from llm.catalog import prices
from llm.engine import snapshot
from llm.models import LLMModel
from tests.billing.books import Books, a_ledger

ZERO = Decimal(0)


@dataclass(frozen=True, kw_only=True)
class Terms:
    """How a request is billed: a markup, an own key's fee, or the tenant's own price (USD billed, whatever the list
    says)."""

    markup: Decimal = ZERO
    fee: Decimal = ZERO
    byok: bool = False
    own_billed: Decimal | None = None
    prepaid: bool = False
    more: Mapping[str, Any] = field(default_factory=dict)  # fields of the usage row


def sell(
    books: Books, model: LLMModel, counts: Mapping[str, int], *, at: datetime, terms: Terms | None = None
) -> UsageRecord:
    """One request of so many units by meter, reserved and settled."""
    terms = terms or Terms()
    version = prices.version_at(LLMModel.objects.get(pk=model.pk), at)
    assert version is not None
    cost = pricing.price(snapshot.card_of(version), counts, prompt_tokens=prompt_of(counts))
    if terms.own_billed is None:
        charged = money.charge(cost.total, byok=terms.byok, markup=terms.markup, byok_fee=terms.fee)
    else:
        said = {"price_override": "1b4e28ba-2fa1-11d2-883f-0016d3cca427", "lines": []}
        charged = money.at_own_price(cost.total, billed=terms.own_billed, terms=said)
    ledger = a_ledger()
    hold = ledger.do(books.ask(charged.budget, now=at, credit=charged.billed if terms.prepaid else None))
    facts = {
        "provider_id": model.provider_id, "provider_slug": model.provider.slug, "model_id": model.pk,
        "model_name": model.model_id, "price_version_id": version.pk, "prompt_tokens": prompt_of(counts),
        "price_lines": [line.as_json() for line in cost.lines], "cost_input_usd": cost.input,
        "cost_output_usd": cost.output, "cost_total_usd": cost.total, "billed_usd": charged.billed,
        "budget_usd": charged.budget, "terms": charged.terms, "used_byok": terms.byok,
        "key_source": "byok" if terms.byok else "platform",
    }  # fmt: skip
    ledger.do(books.settle(hold, charged.budget, now=at, **facts | terms.more))
    return UsageRecord.objects.get(pk=hold.request_id)


def prompt_of(counts: Mapping[str, int]) -> int:
    return sum(count for meter, count in counts.items() if meter in pricing.INPUT_METERS)


def half_up(exact: Fraction) -> Decimal:
    """A fraction as money is kept: 1e-10, half up. Independent of the code that bills."""
    tens = exact * 10**10
    whole = (2 * abs(tens.numerator) + tens.denominator) // (2 * tens.denominator)
    return Decimal(whole if tens >= 0 else -whole).scaleb(-10).quantize(Decimal("1e-10"), rounding=ROUND_HALF_UP)
