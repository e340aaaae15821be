"""The Bedrock dialect: chat completions put into Amazon's Converse API and back, its binary event stream included.

The key is a Bedrock API key, sent as `Authorization: Bearer`, or an AWS access key ("ID:SECRET", "ID:SECRET:TOKEN" or
a JSON object), with which each request is signed (sigv4.py). Which of the two is seen by the key itself. Quirks of a
provider or model, all optional:

    region                 fills `{region}` in the base URL; what is signed for where the URL does not say it
    maker                  "claude", "nova", "gpt-oss" or "", where the model's id does not say it (an ARN)
    unsupported_params     as for OpenAI
    thinking, structured_outputs      as for Anthropic
    forced_tool_choice     as for Anthropic, or "any": takes `any` and no name (Mistral)
"""

import re
from datetime import datetime
from urllib.parse import quote, urlsplit

import orjson

from llm.calls import Call, Completed, Upstream
from llm.errors import InvalidRequest, ProviderError
from llm.fields import Secret
from llm.providers import bedrock_failures, failures, sigv4
from llm.providers.base import Decoder, StreamReader
from llm.providers.bedrock_request import request_body
from llm.providers.bedrock_stream import ConverseReader, completion
from llm.providers.eventstream import EventStreamDecoder
from llm.providers.openai import is_byok, secret_of
from llm.types import Provider

_SERVICE = "bedrock"
_RUNTIME = "bedrock-runtime"
_REGION = re.compile(r"(?:^|\.)bedrock-runtime(?:-fips)?\.([a-z]{2}[a-z0-9-]{1,30})\.")


class Bedrock:
    """Implements `base.Adapter`."""

    def models_request(self, provider: Provider, secret: Secret | None, *, now: datetime, path: str = "") -> Upstream:
        url = _control_url(provider) + (path or "/foundation-models")
        headers = _authorised(sigv4.Request(method="GET", url=url), provider, secret, now)
        return Upstream(url=url, headers=headers, body=b"")

    def build(self, call: Call) -> Upstream:
        body, dropped = request_body(call)
        return self.post(call, "converse-stream" if call.stream else "converse", body, dropped)

    def post(self, call: Call, action: str, body: object, dropped: list[str]) -> Upstream:
        """The request to the target's model. Raises the error that a key is which cannot be one."""
        model, provider = call.target.model, call.target.model.provider
        try:
            payload = orjson.dumps(body)
        except TypeError as error:
            raise InvalidRequest("The request holds text that is not valid Unicode.", param="messages") from error
        url = f"{provider.base_url.rstrip('/')}/model/{quote(model.model_id, safe='')}/{action}"
        request = sigv4.Request(method="POST", url=url, headers={"content-type": "application/json"}, body=payload)
        try:
            headers = _authorised(request, provider, secret_of(call), call.now)
        except ValueError as error:
            raise failures.by_status(401, {}, b"", byok=is_byok(call)) from error
        kind = "application/vnd.amazon.eventstream" if call.stream else "application/json"
        return Upstream(
            url=url,
            headers=headers | {"accept": kind, "accept-encoding": "identity"},
            body=payload,
            dropped=tuple(dropped),
        )

    def parse_response(self, body: bytes, call: Call) -> Completed:
        return completion(body, call)

    def decoder(self) -> Decoder:
        return EventStreamDecoder()

    def reader(self, call: Call) -> StreamReader:
        return ConverseReader(call)

    def parse_error(self, status: int, headers: dict[str, str], body: bytes, *, byok: bool) -> ProviderError:
        return bedrock_failures.by_answer(status, headers, body, byok=byok)


ADAPTER = Bedrock()


def _authorised(request: sigv4.Request, provider: Provider, secret: Secret | None, now: datetime) -> dict[str, str]:
    """The request's headers with the key in them, or a signature by it. Raises ValueError for a key that is none."""
    if secret is None or provider.auth_type == "none":
        return dict(request.headers)
    text = secret.reveal().strip()
    key = sigv4.key_of(text)
    if key is None:
        return {**request.headers, "authorization": f"Bearer {text}"}
    return sigv4.signed(request, key, region=_region(provider), service=_SERVICE, now=now)


def _region(provider: Provider) -> str:
    said = provider.quirks.get("region")
    found = _REGION.search(urlsplit(provider.base_url).hostname or "")
    if isinstance(said, str) and said:
        return said
    if found is None:
        raise ValueError("The base URL names no region. Set the quirk `region`.")
    return found[1]


def _control_url(provider: Provider) -> str:
    """Where models are listed: `bedrock.` stands where `bedrock-runtime.` does. Another host is asked itself."""
    base = provider.base_url.rstrip("/")
    host = urlsplit(base).netloc
    return base.replace(host, host.replace(_RUNTIME, _SERVICE, 1), 1)
