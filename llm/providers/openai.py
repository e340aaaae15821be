"""The OpenAI dialect: chat completions, as every OpenAI-compatible vendor speaks them.

Unknown fields pass through both ways, and an event that says what OpenAI would say is sent on untouched. Quirks of a
provider or model, all optional:

    token_cap_field        "max_tokens" (default) or "max_completion_tokens"
    supports_stream_usage  false: `stream_options` is refused (Mistral); usage comes unasked
    unsupported_params     names that are taken out of the request and reported as dropped
    developer_role         true: knows the role; else `developer` is sent as `system`, which OpenAI treats alike
    auth_header            name of the header that carries the key, instead of Authorization (Azure: "api-key")
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson

from llm.calls import Call, Completed, Upstream
from llm.errors import InvalidRequest, ProviderError
from llm.fields import Secret
from llm.providers import failures
from llm.providers.base import Decoder, StreamReader
from llm.providers.openai_response import ChatReader, completion
from llm.providers.sse import SseDecoder
from llm.types import Provider

_CAPS = ("max_tokens", "max_completion_tokens")
# Other tiers cost other prices than the card that the request was reserved and is billed at.
_SERVICE_TIERS = ("auto", "default")


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
        return ChatReader(byok=is_byok(call))

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


def unsupported(quirks: Mapping[str, Any]) -> frozenset[str]:
    """The quirk `unsupported_params`."""
    return frozenset(quirks.get("unsupported_params") or ())


def request_body(call: Call) -> tuple[dict[str, Any], list[str]]:
    """The body for the provider and the names of what was taken out of it. `call.body` stays as it is."""
    quirks = call.target.model.quirks
    refused = unsupported(quirks)
    body = {name: value for name, value in call.body.items() if value is not None and name not in _CAPS}
    dropped = sorted(refused & body.keys())
    for name in dropped:
        del body[name]
    if body.get("service_tier", "auto") not in _SERVICE_TIERS:
        del body["service_tier"]
        dropped.append("service_tier")
    body["model"] = call.target.model.model_id
    body["messages"] = _messages(body.get("messages"), quirks)
    body[quirks.get("token_cap_field") or "max_tokens"] = call.target.output_cap
    if call.temperature is not None and "temperature" not in refused:
        body.setdefault("temperature", float(call.temperature))
    options = body.pop("stream_options", None)
    body.pop("stream", None)
    if call.stream:
        body["stream"] = True
        if quirks.get("supports_stream_usage", True):
            body["stream_options"] = (options if isinstance(options, dict) else {}) | {"include_usage": True}
    return body, dropped


def _messages(messages: Any, quirks: Mapping[str, Any]) -> Any:
    """As they are, but for a role that most vendors do not know."""
    if quirks.get("developer_role") or not isinstance(messages, list):
        return messages
    if not any(isinstance(one, dict) and one.get("role") == "developer" for one in messages):
        return messages
    return [
        one | {"role": "system"} if isinstance(one, dict) and one.get("role") == "developer" else one
        for one in messages
    ]
