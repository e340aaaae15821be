"""A month with everything that a statement can hold: two prices of a model, own keys, no lines, adjustments."""

import uuid
from datetime import UTC, date, datetime
from decimal import Decimal

from tests.billing.made import a_tenant, adjust, spend

MONTH = date(2026, 10, 1)
AFTER = datetime(2026, 11, 3, 12, tzinfo=UTC)
ALPHA, BETA, CONFIG = (uuid.UUID(int=number) for number in (0xA, 0xB, 0xC))


def line(meter, quantity, price, *, priced_as=None, per=1_000_000):
    return {
        "meter": meter,
        "priced_as": priced_as or meter,
        "quantity": quantity,
        "unit_price_usd": price,
        "unit_quantity": per,
        "amount_usd": str(Decimal(price) * quantity / per),
    }


def a_request(tenant, number, day, lines, cost, *, billed=None, own_key=False, **fields):
    """A usage row with a fixed id, at `cost` and `billed` (the same unless told)."""
    prompt = sum(one["quantity"] for one in lines if one["meter"] in {"input", "cache_read"})
    output = sum(one["quantity"] for one in lines if one["meter"] in {"output", "reasoning"})
    owed = Decimal(cost if billed is None else billed)
    row = {
        "id": uuid.UUID(int=number),
        "key_id": ALPHA,
        "key_name": "alpha",
        "price_lines": lines,
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "billed_usd": owed,
        "budget_usd": Decimal(cost) + owed if own_key else owed,
        "used_byok": own_key,
        "key_source": "byok" if own_key else "platform",
    }
    return spend(tenant.pk, cost, day=day, **(row | fields))


def a_month(slug="acme", **fields):
    """Acme's October: 8 requests that list 0.0380021002, of it 0.02 with own keys; billed 0.0186677424 in all."""
    tenant = a_tenant(slug, id=uuid.UUID(int=0x5107), **fields)
    first, second, last = date(2026, 10, 1), date(2026, 10, 2), date(2026, 10, 31)
    old = [line("input", 1000, "2.5"), line("output", 500, "10")]
    a_request(tenant, 1, first, old, "0.0075", billed="0.00825", cached_tokens=0)
    a_request(tenant, 2, second, old, "0.0075", billed="0.00825", key_name="alpha, renamed")
    new = [line("input", 1000, "2"), line("cache_read", 7, "0.3", priced_as="input"), line("output", 0, "8")]
    a_request(tenant, 3, last, new, "0.0020021", billed="0.00220231", key_id=BETA, key_name="beta", config_id=CONFIG,
              config_name="main")  # fmt: skip
    claude = {"provider_slug": "anthropic", "model_name": "claude-sonnet-4", "key_id": BETA, "key_name": "beta"}
    a_request(tenant, 4, second, [line("input", 10_000, "2")], "0.02", billed="0.0002", own_key=True, **claude)
    a_request(tenant, 5, second, [], "0.001", **claude, status="expired", status_code=500)
    # Each is rounded up from 0.00000000005: together they are a unit more than their lines.
    for number in (6, 7):
        a_request(tenant, number, last, [line("input", 1, "0.00005")], "0.0000000001")
    a_request(tenant, 8, last, [], "0", key_id=None, key_name="", status="failed", status_code=502)
    adjust(tenant, "-0.0012345678", day=last, id=uuid.UUID(int=0xAD), key_id=ALPHA, cost_total_usd=Decimal("-0.001"),
           provider_slug="openai", model_name="gpt-4o", request_id=uuid.UUID(int=1))  # fmt: skip
    # Not of this month, not of this tenant.
    a_request(tenant, 20, date(2026, 9, 30), old, "0.0075")
    a_request(tenant, 21, date(2026, 11, 1), old, "0.0075")
    other = a_tenant("globex")
    a_request(other, 22, second, old, "0.0075", key_name="globex-key")
    return tenant
