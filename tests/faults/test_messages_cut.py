"""The same sweep on Anthropic's wire: a provider cut at every byte, in its own dialect and in OpenAI's.

What has begun is in Anthropic's order to the last frame, and ends in `message_stop` or in one `error`. See
test_cut_everywhere.py for how to make it long and how to repeat it.
"""

from collections import Counter
from typing import Any

import httpx
import pytest

from tests.fakes import Behaviour
from tests.faults.tally import FULL, Tally
from tests.faults.test_cut_everywhere import BODY, STREAMED, TEXT, Seen, judge, longest, nothing_left, offsets
from tests.journeys.world import Customer, Json, Vendor, World
from tests.wires.anthropic_order import broken_off, events_of, message_of

# What anthropic's envelope calls the codes of our usage rows.
CODES = {502: "upstream_error", 504: "upstream_timeout"}
TYPES = {"api_error": "upstream_error", "timeout_error": "upstream_timeout"}


def text_of(blocks: list[Json]) -> str:
    return "".join(block["text"] for block in blocks if block["type"] == "text")


def seen(answer: httpx.Response, *, stream: bool) -> Seen:
    request_id = answer.headers["x-request-id"]
    if answer.status_code != 200:
        assert answer.json()["error"]["type"] in TYPES
        return Seen(answer.status_code, CODES[answer.status_code], "", False, request_id)
    if not stream:
        return Seen(200, "", text_of(answer.json()["content"]), True, request_id)
    events = events_of(answer.content)
    if events[-1]["type"] == "message_stop":
        return Seen(200, "", text_of(message_of(events)["content"]), True, request_id)
    code = TYPES[broken_off(events)["type"]]
    text = "".join(event["delta"]["text"] for event in events if event["type"] == "content_block_delta")
    return Seen(200, code, text, False, request_id)


@STREAMED
@pytest.mark.parametrize("how", ["close", "reset", "stall"])
def test_a_cut_anywhere_is_told_and_charged_truly(
    world: World, customer: Customer, vendor: Vendor, settings: Any, how: Any, stream: bool
) -> None:
    if how == "stall":
        settings.UPSTREAM_FIRST_EVENT_TIMEOUT_S = settings.UPSTREAM_TOTAL_TIMEOUT_S = 0.06
        settings.UPSTREAM_IDLE_TIMEOUT_S = 0.06
    vendor.fake.script("m", Behaviour(text=TEXT))
    length = longest(vendor, stream=stream)
    vendor.fake.reset()
    if how == "stall":
        cuts = [cut for cut in offsets(length, 1 if FULL else length // 12) if cut < length]
    else:
        cuts = offsets(length, 9 if stream else 5)
    endings: list[str] = []
    tally = Tally(f"messages, cut: {how}, {vendor.name}, {'streamed' if stream else 'plain'}")
    with customer.http as client:
        for cut in cuts:
            world.forgive()
            vendor.fake.once("m", Behaviour(text=TEXT, cut_after_bytes=cut, cut_how=how))
            answer = client.post("/v1/messages", json={"model": vendor.reference, "stream": stream, **BODY})
            failure = (504, "upstream_timeout") if how == "stall" else (502, "upstream_error")
            endings.append(judge(tally, seen(answer, stream=stream), failure))
    nothing_left(tally, world, customer)
    tally.close()
    assert len(customer.rows()) == len(cuts)
    counted = Counter(endings)
    assert endings[-1] == "whole" or how == "stall"
    assert counted["nothing"] >= 3
    assert (counted["part"] >= 3) == stream or how == "reset"


@STREAMED
def test_a_cut_and_then_another_vendor_in_another_dialect(world: World, customer: Customer, stream: bool) -> None:
    from tests import cast  # for this one config

    first, second = world.vendors["anthropic"], world.vendors["openai"]
    cast.make_config(customer.tenant, "both", primary_model=first.model, fallback_model=second.model)
    for broken, whole in ((first, second), (second, first)):
        world.reset()
        broken.fake.script("m", Behaviour(text=TEXT, cut_after_bytes=200))
        whole.fake.script("m", Behaviour(text=TEXT))
        answer = customer.ask("config/both", path="/v1/messages", stream=stream, max_tokens=50)
        told = seen(answer, stream=stream)
        assert (told.text, told.whole) == (TEXT, True)
        assert answer.headers["x-provider-used"] == whole.provider.slug
        assert answer.headers["x-was-fallback"] == ("true" if whole is second else "false")
