"""The Anthropic dialect: chat completions put into the Messages API and back.

`anthropic-version` stays 2023-06-01: the later 2026-10-21 refuses temperature, top_p and top_k for every model, also
for those that take them. Quirks of a provider or model, all optional:

    unsupported_params     as for OpenAI; a model that refuses `temperature` is taken to think adaptively
    thinking               "adaptive" (effort), "budget" (budget_tokens) or "none", where that guess is wrong
    structured_outputs     "native" (default: output_config.format, Claude 4.5 and later) or "tool" (a forced tool call)
    forced_tool_choice     false: `required` and named choices are refused (Claude Opus 5.5, Fable 5.1): sent as `auto`
    auth_header            as for OpenAI
"""

import hashlib
import time
from datetime import datetime
from typing import Any

import orjson

from llm.calls import Call, Completed, Upstream
from llm.errors import InvalidRequest, ProviderError, UpstreamInvalid
from llm.fields import Secret
from llm.providers import failures
from llm.providers.anthropic_native import NativeReader, betas, native_body
from llm.providers.anthropic_request import STRUCTURED_TOOL, request_body
from llm.providers.anthropic_stream import MessageReader, service_tier_of
from llm.providers.base import Decoder, StreamReader
from llm.providers.chunks import finish_reason
from llm.providers.openai import auth_headers, is_byok, json_headers, secret_of
from llm.providers.sse import SseDecoder
from llm.providers.usage import openai_shape
from llm.types import Provider

_VERSION = "2023-06-01"


class Anthropic:
    """Implements `base.Adapter`."""

    def auth_headers(self, provider: Provider, secret: Secret | None) -> dict[str, str]:
        return auth_headers(provider, secret, own="x-api-key") | {"anthropic-version": _VERSION}

    def models_request(self, provider: Provider, secret: Secret | None, *, now: datetime, path: str = "") -> Upstream:
        url = provider.base_url.rstrip("/") + (path or "/models")
        return Upstream(url=url, headers=self.auth_headers(provider, secret), body=b"")

    def build(self, call: Call) -> Upstream:
        provider = call.target.model.provider
        body, dropped = request_body(call) if call.native is None else native_body(call)
        header, refused = betas(call)
        try:
            payload = orjson.dumps(body)
        except TypeError as error:
            raise InvalidRequest("The request holds text that is not valid Unicode.", param="messages") from error
        return Upstream(
            url=provider.base_url.rstrip("/") + "/messages",
            headers=json_headers(stream=call.stream) | self.auth_headers(provider, secret_of(call)) | header,
            body=payload,
            dropped=(*dropped, *refused),
        )

    def parse_response(self, body: bytes, call: Call) -> Completed:
        return completion(body, byok=is_byok(call), native=call.native is not None)

    def decoder(self) -> Decoder:
        return SseDecoder()

    def reader(self, call: Call) -> StreamReader:
        return MessageReader(call) if call.native is None else NativeReader(call)

    def parse_error(self, status: int, headers: dict[str, str], body: bytes, *, byok: bool) -> ProviderError:
        return failures.by_status(status, headers, body, byok=byok)


ADAPTER = Anthropic()


def completion(body: bytes, *, byok: bool = False, native: bool = False) -> Completed:
    """A message as a chat completion; with `native` also as it came.

    Thinking is `reasoning_content`; `thinking_blocks` keeps the blocks as they came, with their signatures, and is
    taken back in a later request. Usage is OpenAI-shaped (see `providers.usage`) and the same in the body.
    """
    message = failures.answered(body, byok=byok)
    blocks = message.get("content")
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        raise UpstreamInvalid("The provider's answer has no content.")
    said = _assistant(blocks)
    choice = {
        "index": 0,
        "message": said,
        "logprobs": None,
        "finish_reason": finish_reason(message.get("stop_reason"), tools="tool_calls" in said),
    }
    known, model = message.get("id"), message.get("model")
    answer: dict[str, Any] = {
        "id": known if isinstance(known, str) and known else f"chatcmpl-{_digest(body)}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model if isinstance(model, str) else "",
        "choices": [choice],
    }
    usage = openai_shape(message.get("usage"))
    if usage is not None:
        answer["usage"] = usage
    service_tier = service_tier_of(message.get("usage"))
    return Completed(body=answer, usage=usage, native=message if native else None, service_tier=service_tier)


def _assistant(blocks: list[dict[str, Any]]) -> dict[str, Any]:
    """The assistant's message. Blocks of server tools have no place in it and are passed over."""
    texts: list[str] = []
    thoughts: list[str] = []
    thinking: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    for block in blocks:
        kind = block.get("type")
        if kind == "text":
            texts.append(_string(block.get("text")))
        elif kind in ("thinking", "redacted_thinking"):
            thoughts.append(_string(block.get("thinking")))
            thinking.append(block)
        elif kind == "tool_use":
            arguments = orjson.dumps(block.get("input") or {}).decode()
            if block.get("name") == STRUCTURED_TOOL:
                texts.append(arguments)
                continue
            name = _string(block.get("name"))
            if not name:
                raise UpstreamInvalid("The provider's answer has a tool call without a name.")
            known = _string(block.get("id")) or f"call_{_digest(arguments.encode())}{len(calls)}"
            calls.append({"id": known, "type": "function", "function": {"name": name, "arguments": arguments}})
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(texts) or (None if calls else ""),
        "refusal": None,
    }
    if any(thoughts):
        message["reasoning_content"] = "".join(thoughts)
    if thinking:
        message["thinking_blocks"] = thinking
    if calls:
        message["tool_calls"] = calls
    return message


def _digest(said: bytes) -> str:
    """An id for what has none: the same answer always has the same."""
    return hashlib.blake2b(said, digest_size=12).hexdigest()


def _string(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UpstreamInvalid("The provider's answer has a block whose text is no text.")
    return value
