"""Gemini's stream as chat chunks: each event is a whole GenerateContentResponse with the next parts in it.

There is no event that says the end: the transport does. Tool calls come whole, and are given out as one fragment each.
Of several candidates each has events of its own, or shares one. An error under way comes as plain JSON behind the
events, over several lines and without their `data:` (source: `_iter_response_stream` of googleapis/python-genai).
"""

from typing import Any

from llm.calls import Call, StreamEvent
from llm.errors import UpstreamInvalid
from llm.providers import google_response
from llm.providers.chunks import Chunks, utf8_length
from llm.providers.google_response import Json, Said
from llm.providers.sse import SseDecoder

_ERROR_CAP = 64 * 1024  # bytes of plain JSON; no error is as long
_OPENINGS = (b"{", b"[")


class ResponseDecoder:
    """Implements `base.Decoder`: server-sent events, and the plain JSON that ends a stream which failed."""

    __slots__ = ("_at_line_start", "_plain", "_sse")

    def __init__(self) -> None:
        self._sse = SseDecoder()
        self._plain: bytes | None = None
        self._at_line_start = True

    def feed(self, data: bytes) -> list[bytes]:
        payloads: list[bytes] = []
        if self._plain is None:
            events, plain = self._split(data)
            self._at_line_start = data.endswith(b"\n") if data else self._at_line_start
            payloads = self._sse.feed(events)
            if not plain:
                return payloads
            self._plain, data = b"", plain
        self._plain += data
        if len(self._plain) > _ERROR_CAP:
            raise UpstreamInvalid("The provider's stream goes on with something that is no event.")
        return payloads

    def close(self) -> list[bytes]:
        payloads = self._sse.close()
        return [*payloads, self._plain] if self._plain else payloads

    def _split(self, data: bytes) -> tuple[bytes, bytes]:
        """What is events, and what is plain JSON behind them. No line of an event begins with a bracket."""
        if self._at_line_start and data.startswith(_OPENINGS):
            return b"", data
        starts = [found for opening in _OPENINGS if (found := data.find(b"\n" + opening)) >= 0]
        if not starts:
            return data, b""
        return data[: min(starts) + 1], data[min(starts) + 1 :]


class ResponseReader:
    """Implements `base.StreamReader`."""

    __slots__ = ("_byok", "_call", "_calls", "_chunks", "_finished", "_named", "_produced", "_raw_usage", "_usage")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._byok = call.target.key_source == "byok"
        self._chunks = Chunks(call)
        self._named = False
        self._calls: dict[int, int] = {}  # how many tools each candidate has called
        self._produced: set[int] = set()  # candidates that have said anything
        self._finished: set[int] = set()
        self._raw_usage: Json = {}
        self._usage: Json | None = None

    def read(self, payload: bytes) -> list[StreamEvent]:
        if payload.strip() == b"[DONE]":  # imitations of the dialect end so
            return [StreamEvent(done=True, usage=self._usage)]
        answer = google_response.answer_of(payload, byok=self._byok)
        if not self._named:
            self._name(answer)
        events: list[StreamEvent] = []
        for position, candidate in enumerate(google_response.candidates_of(answer)):
            index = candidate.get("index")
            events += self._candidate(candidate, index if type(index) is int else position)
        if not events and not self._finished:
            events = self._refusal(google_response.blocked(answer))
        if self._count(answer.get("usageMetadata")):
            if events:
                for event in events:
                    event.usage = self._usage
            else:
                events = [StreamEvent(usage=self._usage)]
            events[-1].service_tier = google_response.service_tier_of(answer.get("usageMetadata"))
        return events

    def _name(self, answer: Json) -> None:
        self._named = True
        known, model = answer.get("responseId"), answer.get("modelVersion")
        if type(known) is str and known:
            self._chunks.id = known
        if type(model) is str and model:
            self._chunks.model = model

    def _candidate(self, candidate: Json, index: int) -> list[StreamEvent]:
        before = self._calls.get(index, 0)
        said = google_response.said_by(candidate, f"{google_response.call_id(self._call, index)}{before or ''}")
        if said.text or said.thought or said.calls:
            self._produced.add(index)
        events: list[StreamEvent] = []
        for name, text in (("reasoning_content", said.thought), ("content", said.text)):
            if text:
                events.append(self._event({name: text}, index, utf8_length(text)))
        if said.logprobs is not None and events:
            self._choice(events[-1])["logprobs"] = said.logprobs
        if said.signature:
            events.append(self._event({"extra_content": google_response.extra_content(said.signature)}, index))
        if said.calls:
            events += self._tool_calls(said, index, before)
        if said.finish is not None:
            events.append(self._finish(said, index))
        return events

    def _tool_calls(self, said: Said, index: int, before: int) -> list[StreamEvent]:
        events = []
        for position, call in enumerate(said.calls, start=before):
            size = utf8_length(call["function"]["arguments"])
            events.append(self._event({"tool_calls": [{"index": position} | call]}, index, size))
        self._calls[index] = before + len(said.calls)
        return events

    def _finish(self, said: Said, index: int) -> StreamEvent:
        if type(said.finish) is not str:
            raise UpstreamInvalid("The provider sent a finish that is no text.")
        self._finished.add(index)
        tools, anything = self._calls.get(index, 0) > 0, index in self._produced
        finish = google_response.finish_of(said.finish, tools=tools, anything=anything)
        return StreamEvent(chunk=self._chunks.chunk({}, index=index, finish=finish), good=True, usage=self._usage)

    def _refusal(self, refusal: str) -> list[StreamEvent]:
        """The prompt was stopped: nothing comes but this."""
        if not refusal:
            return []
        self._finished.add(0)
        said = self._event({"refusal": refusal}, 0)
        return [said, StreamEvent(chunk=self._chunks.chunk({}, finish="content_filter"), good=True, usage=self._usage)]

    def _event(self, delta: Json, index: int, size: int = 0) -> StreamEvent:
        chunk = self._chunks.chunk(delta, index=index)
        return StreamEvent(chunk=chunk, good=True, usage=self._usage, output_bytes=size)

    @staticmethod
    def _choice(event: StreamEvent) -> Json:
        assert event.chunk is not None
        choice: Json = event.chunk["choices"][0]
        return choice

    def _count(self, said: Any) -> bool:
        """Take in what was counted so far. True if there is a count now."""
        if said is None:
            return False
        google_response.merged_usage(self._raw_usage, said)
        done = bool(self._finished)
        self._usage = google_response.openai_usage(self._raw_usage, final=done, produced=bool(self._produced))
        return self._usage is not None
