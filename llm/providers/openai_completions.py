"""OpenAI's legacy completions: `/completions`, text in and text out.

`Call.body`, whole answers and the chunks of a stream all keep the legacy shape (`text_completion`: `choices[].text`).
Unknown fields pass through. The quirk `legacy_completions` of a provider or model says that it serves them; the quirks
`unsupported_params`, `supports_stream_usage` and `auth_header` mean what they do for chats. The cap is `max_tokens`
everywhere.
"""

import hashlib
import time
from typing import Any

import orjson

from llm.calls import Call, Completed, StreamEvent, Upstream
from llm.errors import InvalidRequest, UpstreamFailed, UpstreamInvalid
from llm.providers import chunks, failures
from llm.providers.base import StreamReader
from llm.providers.openai import OpenAI, is_byok, json_headers, secret_of
from llm.providers.openai_request import CAPS, set_stream, unsupported

Json = dict[str, Any]


class OpenAICompletions(OpenAI):
    """Implements `base.Adapter` for the kind `completion`."""

    def build(self, call: Call) -> Upstream:
        body, dropped = request_body(call)
        provider = call.target.model.provider
        try:
            payload = orjson.dumps(body)
        except TypeError as error:
            raise InvalidRequest("The request holds text that is not valid Unicode.", param="prompt") from error
        return Upstream(
            url=provider.base_url.rstrip("/") + "/completions",
            headers=json_headers(stream=call.stream) | self.auth_headers(provider, secret_of(call)),
            body=payload,
            dropped=tuple(dropped),
        )

    def parse_response(self, body: bytes, call: Call) -> Completed:
        answer = failures.answered(body, byok=is_byok(call))
        choices = _choices(answer)
        if not choices:
            raise UpstreamInvalid("The provider's answer has no choices.")
        for position, choice in enumerate(choices):
            _checked(choice, position)
            choice["finish_reason"] = finish_reason(choice.get("finish_reason"))
            choice.setdefault("logprobs", None)
        if not isinstance(answer.get("id"), str) or not answer["id"]:
            answer["id"] = "cmpl-" + hashlib.blake2b(body, digest_size=12).hexdigest()
        if type(answer.get("created")) is not int:
            answer["created"] = int(time.time())
        answer["object"] = "text_completion"
        usage = answer.get("usage")
        return Completed(body=answer, usage=usage if isinstance(usage, dict) and usage else None)

    def reader(self, call: Call) -> StreamReader:
        return CompletionReader(byok=is_byok(call))


ADAPTER = OpenAICompletions()


def request_body(call: Call) -> tuple[Json, list[str]]:
    """The body for the provider and the names of what was taken out. Raises InvalidRequest."""
    quirks = call.target.model.quirks
    refused = unsupported(quirks)
    body = {name: value for name, value in call.body.items() if value is not None and name not in CAPS}
    _no_hidden_drafts(body)
    dropped = sorted(refused & body.keys())
    for name in dropped:
        del body[name]
    body["model"] = call.target.model.model_id
    body["max_tokens"] = call.target.output_cap
    if call.temperature is not None and "temperature" not in refused:
        body.setdefault("temperature", float(call.temperature))
    set_stream(body, call)
    return body, dropped


def _no_hidden_drafts(body: Json) -> None:
    """`best_of` answers are all billed and only `n` of them shown: more than that no hold would cover."""
    drafts = body.get("best_of")
    if drafts is not None and drafts != body.get("n", 1):
        raise InvalidRequest(
            "`best_of` is billed beyond what is shown. Leave it out, or ask for as many with `n`.",
            param="best_of",
            code="unsupported_parameter",
        )


def finish_reason(said: Any) -> str:
    return chunks.finish_reason(said, tools=False)


class CompletionReader:
    """Implements `base.StreamReader`: chunks of the legacy shape."""

    __slots__ = ("_byok", "_usage")

    def __init__(self, *, byok: bool = False) -> None:
        self._byok = byok
        self._usage: Json | None = None  # the last that was said; it counts from the start

    def read(self, payload: bytes) -> list[StreamEvent]:
        try:
            chunk = orjson.loads(payload)
        except orjson.JSONDecodeError as error:
            if payload.strip() == b"[DONE]":
                return [StreamEvent(done=True, usage=self._usage)]
            raise UpstreamInvalid("The provider sent an event that is not JSON.") from error
        if type(chunk) is not dict:
            raise UpstreamInvalid("The provider sent an event that is not an object.")
        if chunk.get("error"):
            raise failures.in_band(chunk["error"], byok=self._byok)
        usage = chunk.get("usage")
        if usage and type(usage) is dict:
            self._usage = usage
        if chunk.get("choices") is None and not usage:
            return []  # neither text nor usage: a keep-alive in JSON
        event = StreamEvent(chunk=chunk, usage=self._usage, raw=payload)
        for position, choice in enumerate(_choices(chunk)):
            if not _checked(choice, position) or b"\n" in payload:
                event.raw = None
            text, said = choice["text"], choice.get("finish_reason")
            event.output_bytes += chunks.utf8_length(text)
            event.good = event.good or bool(text) or said is not None
            if said is not None and (found := finish_reason(said)) != said:
                choice["finish_reason"], event.raw = found, None
        return [event]


def _choices(answer: Json) -> list[Json]:
    found = answer.get("choices") or []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise UpstreamInvalid("The provider sent choices that are no list of objects.")
    return found


def _checked(choice: Json, position: int) -> bool:
    """Give a choice the text and index that it lacks. True if it lacked none. Raises what is wrong with it."""
    if choice.get("finish_reason") == "error":
        raise UpstreamFailed("The provider broke off its answer.")
    same = True
    if type(choice.get("index")) is not int:
        choice["index"], same = position, False
    text = choice.get("text")
    if text is None:
        choice["text"], same = "", False
    elif not isinstance(text, str):
        raise UpstreamInvalid("The provider sent a choice whose text is no text.")
    return same
