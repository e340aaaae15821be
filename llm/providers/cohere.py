"""The Cohere dialect: chat completions put into the Chat API v2 and back.

Quirks of a provider or model, all optional:

    unsupported_params     as for OpenAI
    forced_tool_choice     false: the model knows no `tool_choice` (those before Command R7B): `required` and named
                           choices are sent without it, `none` without tools
    auth_header            as for OpenAI

Sources: docs.cohere.com (API reference of /v2/chat, "Structured Outputs", "Streaming", "Reasoning", "Errors",
"Compatibility API", "How Does Cohere's Pricing Work?") and the types of Cohere's Python SDK 7.3.
"""

from datetime import datetime

import orjson

from llm.calls import Call, Completed, Upstream
from llm.errors import InvalidRequest, ProviderError, UpstreamFailed, UpstreamRejected
from llm.fields import Secret
from llm.providers import failures
from llm.providers.base import Decoder, StreamReader
from llm.providers.cohere_answer import completion
from llm.providers.cohere_request import request_body
from llm.providers.cohere_stream import ChatReader
from llm.providers.openai import auth_headers, json_headers, secret_of
from llm.providers.sse import SseDecoder
from llm.types import Provider

_DENIED, _CANCELLED = 498, 499


class Cohere:
    """Implements `base.Adapter`."""

    def auth_headers(self, provider: Provider, secret: Secret | None) -> dict[str, str]:
        return auth_headers(provider, secret, own="authorization")

    def models_request(self, provider: Provider, secret: Secret | None, *, now: datetime, path: str = "") -> Upstream:
        """Version 2 has no list of models: it is version 1's."""
        base = provider.base_url.rstrip("/")
        url = base + path if path else base.removesuffix("/v2").removesuffix("/v1") + "/v1/models"
        return Upstream(url=url, headers=self.auth_headers(provider, secret), body=b"")

    def build(self, call: Call) -> Upstream:
        body, dropped = request_body(call)
        return upstream(self, call, "/chat", body, dropped)

    def parse_response(self, body: bytes, call: Call) -> Completed:
        return completion(body, call)

    def decoder(self) -> Decoder:
        return SseDecoder()

    def reader(self, call: Call) -> StreamReader:
        return ChatReader(call)

    def parse_error(self, status: int, headers: dict[str, str], body: bytes, *, byok: bool) -> ProviderError:
        """498: the request or the answer holds a deny-listed token. 499: the request was cancelled over there."""
        if status == _DENIED:
            return UpstreamRejected("The provider blocked the request or its answer by its content policy.")
        if status == _CANCELLED:
            return UpstreamFailed("The provider cancelled the request.", retry_after=failures.retry_after(headers))
        return failures.by_status(status, headers, body, byok=byok)


ADAPTER = Cohere()


def upstream(adapter: Cohere, call: Call, path: str, body: dict[str, object], dropped: list[str]) -> Upstream:
    """A request to one of Cohere's endpoints."""
    provider = call.target.model.provider
    try:
        payload = orjson.dumps(body)
    except TypeError as error:
        raise InvalidRequest("The request holds text that is not valid Unicode.", param="messages") from error
    return Upstream(
        url=provider.base_url.rstrip("/") + path,
        headers=json_headers(stream=call.stream) | adapter.auth_headers(provider, secret_of(call)),
        body=payload,
        dropped=tuple(dropped),
    )
