"""The registry, and the call that the other provider tests start from."""

import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from billing.pricing import PriceCard
from llm.calls import Call
from llm.fields import Secret
from llm.providers import registry
from llm.types import DIALECTS, Credential, Model, Provider, Target
from tests.fakes import bedrock_wire

REQUEST_ID = "0198c1f2-4b00-7000-8000-000000000001"  # a UUIDv7 of 2025-08-19 12:55:21 UTC
CREATED = 0x0198C1F24B00 // 1000
SSE_END = (b"data: [DONE]\n\n", b"[DONE]")
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
KEY = "sk-canary-0123456789abcdef"


def a_call(
    body: dict[str, Any] | None = None,
    *,
    dialect: str = "openai",
    quirks: dict[str, Any] | None = None,
    stream: bool = False,
    cap: int = 1000,
    temperature: str | None = None,
    auth_type: str = "bearer",
    key_source: str = "platform",
    base_url: str = "https://vendor.example/v1",
    is_reasoning: bool = True,
    context_window: int = 128_000,
    model_id: str = "m-1",
    key: str = KEY,
) -> Call:
    """One attempt at model `m-1`, unless another is named."""
    credential = Credential(id=None, name="main", secret=Secret(key), source=key_source)
    provider = Provider(
        id=uuid.uuid4(),
        slug="vendor",
        name="Vendor",
        base_url=base_url,
        dialect=dialect,
        auth_type=auth_type,
        quirks=quirks or {},
    )
    model = Model(
        id=uuid.uuid4(),
        provider=provider,
        model_id=model_id,
        reference=f"vendor/{model_id}",
        name="M 1",
        context_window=context_window,
        max_output_tokens=None,
        supports=frozenset(),
        is_reasoning=is_reasoning,
        quirks=quirks or {},
    )
    card = PriceCard(version_id=uuid.uuid4(), number=1, effective_from=datetime.now(UTC), effective_to=None, tiers=())
    target = Target(model=model, credential=credential, key_source=key_source, output_cap=cap, card=card)
    return Call(
        target=target,
        body=body if body is not None else {"model": "x", "messages": [{"role": "user", "content": "Hi"}]},
        stream=stream,
        request_id=REQUEST_ID,
        now=NOW,
        temperature=None if temperature is None else Decimal(temperature),
    )


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_every_built_dialect_has_an_adapter_that_implements_the_protocol(dialect: str) -> None:
    adapter = registry.adapter(dialect)
    call = a_call(dialect=dialect, stream=True)
    asked = adapter.models_request(call.target.model.provider, Secret(KEY), now=NOW)
    assert asked.url == f"https://vendor.example/v1/{'foundation-models' if dialect == 'bedrock' else 'models'}"
    assert any(KEY in value for value in asked.headers.values())
    elsewhere = adapter.models_request(call.target.model.provider, None, now=NOW, path="/model/info")
    assert elsewhere.url == "https://vendor.example/v1/model/info"
    assert not any(KEY in value for value in elsewhere.headers.values())
    assert adapter.build(call).url.startswith("https://vendor.example/v1/")
    raw, payload = (bedrock_wire.event("metadata", {}), b'{"metadata":{}}') if dialect == "bedrock" else SSE_END
    assert adapter.decoder().feed(raw) == [payload]
    assert adapter.reader(call).read(payload)[0].done
    assert registry.adapter(dialect) is adapter


def test_a_dialect_that_is_not_built_is_a_lookup_error() -> None:
    with pytest.raises(LookupError, match="'telegraph'"):
        registry.adapter("telegraph")


def test_keys_show_in_no_representation_of_a_request() -> None:
    for dialect in ("openai", "anthropic", "bedrock", "cohere", "google"):
        upstream = registry.adapter(dialect).build(a_call(dialect=dialect))
        assert KEY not in repr(upstream)
        assert any(KEY in value for value in upstream.headers.values())
        assert KEY not in upstream.url
