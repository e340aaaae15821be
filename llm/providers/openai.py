"""The OpenAI dialect: chat completions, as every OpenAI-compatible vendor speaks them.

Unknown fields pass through both ways, and an event that says what OpenAI would say is sent on untouched. Quirks of a
provider or model, all optional; a model's own stand in for its provider's of the same name. Each is explained with an
example in docs/add-a-provider.md.

    token_cap_field        "max_tokens" (default) or "max_completion_tokens"
    supports_stream_usage  false: `stream_options` is refused (Mistral); usage comes unasked
    unsupported_params     names that are taken out of the request and reported as dropped
    renamed_params         what the vendor calls a parameter: {"seed": "random_seed"}
    extra_params           fields of every request, unless the client sends its own: {"reasoning_format": "parsed"}
    temperature_range      [least, most] that the vendor takes: a temperature beyond is moved to it
    forced_tool_choice     false: `required` and named choices are dropped and reported; `none` leaves the tools out
    developer_role         true: knows the role; else `developer` is sent as `system`, which OpenAI treats alike
    message_names          false: a message's `name` is refused: it is dropped (Groq)
    cache_control          true: takes Anthropic's cache marks on messages, parts and tools; else they are dropped
    assistant_fields       fields of an earlier answer that go back, of `reasoning_content`, `reasoning`,
                           `reasoning_details`, `thinking_blocks`, `citations`; others are dropped. The text of the
                           reasoning goes back as `reasoning_content` or `reasoning`, whichever is listed
    reasoning_request      how `reasoning_effort` is said: "reasoning_effort" (default), "reasoning" ({"effort": ...},
                           OpenRouter), "enable_thinking" (DashScope), "thinking" ({"type": ...}), or
                           "thinking_effort" ({"type": ...} and the effort beside it)
    reasoning_efforts      what the model calls an effort: {"medium": "high"}; "" drops it
    service_tiers          what the vendor calls the tiers it takes: {"standard": "on_demand", "flex": "flex"}
                           (Groq). Default: OpenAI's words for "auto", "standard", "flex" and "priority"
    auth_header            name of the header that carries the key, instead of Authorization (Azure: "api-key")

`openai_embeddings` and `openai_completions` have quirks of their own.
"""

from datetime import datetime

import orjson

from llm.calls import Call, Completed, Upstream
from llm.errors import InvalidRequest, ProviderError
from llm.fields import Secret
from llm.providers import failures
from llm.providers.base import Decoder, StreamReader
from llm.providers.openai_request import request_body, unsupported
from llm.providers.openai_response import ChatReader, completion
from llm.providers.sse import SseDecoder
from llm.types import Provider

# `unsupported` and what is below the adapter serve the other dialects too.
__all__ = ["ADAPTER", "OpenAI", "auth_headers", "is_byok", "json_headers", "secret_of", "unsupported"]


class OpenAI:
    """Implements `base.Adapter`."""

    def auth_headers(self, provider: Provider, secret: Secret | None) -> dict[str, str]:
        return auth_headers(provider, secret, own="authorization")

    def models_request(self, provider: Provider, secret: Secret | None, *, now: datetime, path: str = "") -> Upstream:
        url = provider.base_url.rstrip("/") + (path or "/models")
        return Upstream(url=url, headers=self.auth_headers(provider, secret), body=b"")

    def build(self, call: Call) -> Upstream:
        provider = call.target.model.provider
        body, dropped = request_body(call)
        try:
            payload = orjson.dumps(body)
        except TypeError as error:
            raise InvalidRequest("The request holds text that is not valid Unicode.", param="messages") from error
        return Upstream(
            url=provider.base_url.rstrip("/") + "/chat/completions",
            headers=json_headers(stream=call.stream) | self.auth_headers(provider, secret_of(call)),
            body=payload,
            dropped=tuple(dropped),
        )

    def parse_response(self, body: bytes, call: Call) -> Completed:
        return completion(body, byok=is_byok(call))

    def decoder(self) -> Decoder:
        return SseDecoder()

    def reader(self, call: Call) -> StreamReader:
        choices = call.body.get("n")
        seed = call.request_id.replace("-", "")
        return ChatReader(byok=is_byok(call), choices=choices if type(choices) is int else 1, seed=seed)

    def parse_error(self, status: int, headers: dict[str, str], body: bytes, *, byok: bool) -> ProviderError:
        return failures.by_status(status, headers, body, byok=byok)


ADAPTER = OpenAI()


def auth_headers(provider: Provider, secret: Secret | None, *, own: str) -> dict[str, str]:
    """The header that carries the key. `own` is the dialect's for `api_key`; the quirk `auth_header` beats it."""
    if secret is None or provider.auth_type == "none":
        return {}
    name = "authorization"
    if provider.auth_type in ("api_key", "custom"):
        name = str(provider.quirks.get("auth_header") or own).lower()
    key = secret.reveal().strip()
    return {name: f"Bearer {key}" if name == "authorization" else key}


def json_headers(*, stream: bool) -> dict[str, str]:
    return {
        "content-type": "application/json",
        "accept": "text/event-stream" if stream else "application/json",
        "accept-encoding": "identity",
    }


def secret_of(call: Call) -> Secret | None:
    return None if call.target.credential is None else call.target.credential.secret


def is_byok(call: Call) -> bool:
    return call.target.key_source == "byok"
