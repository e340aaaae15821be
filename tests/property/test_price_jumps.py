"""More than five times: what is not asked again costs no request more than five times as much, or less than a fifth."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from billing.pricing import Unpriced, price
from llm.catalog.components import SUSPICIOUS_FACTOR, Component, card_of, check, first_jump
from llm.choices import Kind, Meter, ServiceTier
from tenants.errors import InvalidValue

THRESHOLDS = (0, 1, 1_000, 200_000)
METERS = st.sampled_from(
    ["input", "output", "cache_read", "cache_write_5m", "reasoning", "audio_cache_read", "audio_input", "image"]
)
# Few and near: so that about as many pairs are within five times as are not.
USD = st.sampled_from([Decimal(usd) for usd in ("0", "1", "2", "4", "4.5", "5", "5.5")])
MORE = st.lists(
    st.builds(Component, METERS, USD, st.sampled_from(THRESHOLDS), st.sampled_from(ServiceTier.values)), max_size=4
)


def price_of(input_usd: Decimal, output_usd: Decimal, more: list[Component]) -> list[Component]:
    """A price that would be taken: without the rest where that makes it one that would not."""
    base = [Component("input", input_usd), Component("output", output_usd)]
    found = {one.key: one for one in [*base, *more]}
    try:
        return check(found.values(), kind=Kind.CHAT)
    except InvalidValue:
        return base


PRICES = st.builds(price_of, USD, USD, MORE)


def cost(components: list[Component], counts: dict[str, int], prompt_tokens: int, service_tier: str) -> Decimal | None:
    card = card_of(components)
    offered = service_tier if service_tier in card.services else "standard"
    try:
        return price(card, counts, prompt_tokens=prompt_tokens, service_tier=offered).total
    except Unpriced:  # a fee that it does not name
        return None


@given(
    PRICES, PRICES,
    st.dictionaries(st.sampled_from(Meter.values).filter(lambda one: one != "request"), st.integers(1, 10**6)),
    st.sampled_from([0, 1, 2, 999, 1_000, 1_001, 200_000, 200_001]),
    st.sampled_from(ServiceTier.values),
)  # fmt: skip
def test_what_is_not_asked_again_keeps_every_request_within_five_times(
    old: list[Component], new: list[Component], counts: dict[str, int], prompt_tokens: int, service_tier: str
) -> None:
    if first_jump(old, new) is not None:
        return
    was, becomes = (cost(one, counts, prompt_tokens, service_tier) for one in (old, new))
    if was is not None and becomes is not None:
        rounding = Decimal("1e-9")
        assert becomes <= SUSPICIOUS_FACTOR * was + rounding
        assert was <= SUSPICIOUS_FACTOR * becomes + rounding


@given(PRICES, PRICES)
def test_back_asks_as_there_and_the_same_never_does(old: list[Component], new: list[Component]) -> None:
    there, back = first_jump(old, new), first_jump(new, old)
    assert (there is None) == (back is None)
    if there is not None and back is not None:
        assert (there[0], there[1], there[2]) == (back[0], back[2], back[1])
    assert first_jump(old, old) is None


@given(PRICES, st.sampled_from(THRESHOLDS[1:]), st.sampled_from(["input", "output"]))
def test_a_new_threshold_a_thousand_times_dearer_is_always_asked(old: list[Component], above: int, meter: str) -> None:
    dearer = Component(meter, Decimal(100_000), above)
    kept = [one for one in old if one.key != dearer.key and one.service_tier == "standard"]
    assert first_jump(old, [*kept, dearer]) is not None
