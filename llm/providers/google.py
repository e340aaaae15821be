"""The Google dialect: chat completions put into generateContent and back, at the Gemini API and at Vertex AI.

The Gemini API takes a key (`x-goog-api-key`). Vertex AI takes an OAuth token, for which the engine exchanges a service
account's key (`llm.engine.oauth`), and wants a project and a location in its paths. Quirks of a provider or model, all
optional:

    vertex                 whether it is Vertex AI; by default a provider with the auth type `oauth` is
    project                the project requests go to; by default, and for tenants' own keys, the service account's
    location               where the base URL does not tell it ("europe-west4-aiplatform.googleapis.com" does)
    token_uri              another token endpoint than Google's (read by the engine)
    unsupported_params     as for OpenAI
    thinking               "level" (Gemini 3 and later), "budget" (2.5) or "none", where the model's name misleads
    thinking_levels        the levels it has; by default low, medium and high
    thinking_budget        [least, most] tokens; by default 0 to 24,576
    auth_header            as for OpenAI
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlsplit

import orjson

from llm.calls import Call, Completed, Upstream
from llm.errors import InvalidRequest, ProviderError, UpstreamFailed
from llm.fields import Secret
from llm.providers import failures, google_response
from llm.providers.base import Decoder, StreamReader
from llm.providers.google_request import request_body
from llm.providers.google_stream import ResponseDecoder, ResponseReader
from llm.providers.openai import auth_headers, json_headers, secret_of
from llm.types import Provider

_PROJECT = re.compile(r"[a-z0-9][a-z0-9.:-]{1,98}", re.ASCII)
# Regions, "global" and the multi-regions "us" and "eu" (source: Client of googleapis/python-genai).
_HOST = re.compile(
    r"(?:(?P<region>[a-z0-9-]+)-aiplatform|aiplatform\.(?P<multi>[a-z]+)\.rep|aiplatform)\.googleapis\.com"
)


class Google:
    """Implements `base.Adapter`."""

    def auth_headers(self, provider: Provider, secret: Secret | None) -> dict[str, str]:
        return auth_headers(provider, secret, own="x-goog-api-key")

    def models_request(self, provider: Provider, secret: Secret | None, *, now: datetime, path: str = "") -> Upstream:
        """A `path` that begins with a question mark is a query of the list."""
        base = provider.base_url.rstrip("/")
        models = f"{base}/models"
        if is_vertex(provider):  # v1 has no list of models, only v1beta1 has
            models = f"{base.removesuffix('/v1')}/v1beta1/publishers/google/models"
        url = base + path if path.startswith("/") else models + path
        return Upstream(url=url, headers=self.auth_headers(provider, secret), body=b"")

    def build(self, call: Call) -> Upstream:
        body, dropped = request_body(call)
        method = "streamGenerateContent?alt=sse" if call.stream else "generateContent"
        return upstream(call, method, body, dropped)

    def parse_response(self, body: bytes, call: Call) -> Completed:
        return google_response.completion(body, call)

    def decoder(self) -> Decoder:
        return ResponseDecoder()

    def reader(self, call: Call) -> StreamReader:
        return ResponseReader(call)

    def parse_error(self, status: int, headers: dict[str, str], body: bytes, *, byok: bool) -> ProviderError:
        return failures.by_status(status, headers, body, byok=byok)


ADAPTER = Google()


def is_vertex(provider: Provider) -> bool:
    return bool(provider.quirks.get("vertex", provider.auth_type == "oauth"))


def upstream(call: Call, method: str, body: Mapping[str, Any], dropped: list[str]) -> Upstream:
    """The request for one method of the call's model."""
    provider = call.target.model.provider
    try:
        payload = orjson.dumps(body)
    except TypeError as error:
        raise InvalidRequest("The request holds text that is not valid Unicode.", param="messages") from error
    return Upstream(
        url=f"{provider.base_url.rstrip('/')}/{_resource(call)}:{method}",
        headers=json_headers(stream=call.stream) | ADAPTER.auth_headers(provider, secret_of(call)),
        body=payload,
        dropped=tuple(dropped),
    )


def _resource(call: Call) -> str:
    """The model's name as a path. One with a slash is a path already: a tuned model, an endpoint, another publisher."""
    model_id = quote(call.target.model.model_id, safe="/@")
    provider = call.target.model.provider
    if not is_vertex(provider):
        return model_id if "/" in model_id else f"models/{model_id}"
    name = model_id if "/" in model_id else f"publishers/google/models/{model_id}"
    project = _project(call)
    if not project and provider.auth_type == "api_key":
        return name  # express mode: the key says the project
    location = _location(provider)
    if not _PROJECT.fullmatch(project) or not location:
        raise UpstreamFailed(
            "This provider is not set up completely: its project or its location is missing. Tell the operator."
        )
    return f"projects/{quote(project)}/locations/{quote(location)}/{name}"


def _project(call: Call) -> str:
    """A tenant's own key goes to its own project."""
    credential, said = call.target.credential, str(call.target.model.provider.quirks.get("project") or "")
    own = "" if credential is None else credential.project
    return (own or said) if call.target.key_source == "byok" else (said or own)


def _location(provider: Provider) -> str:
    said = provider.quirks.get("location")
    if isinstance(said, str) and said:
        return said
    found = _HOST.fullmatch(urlsplit(provider.base_url).hostname or "")
    return (found["region"] or found["multi"] or "global") if found else ""
