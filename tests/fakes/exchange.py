"""One request and its response: what to answer, how to send it, what to bill."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import anthropic_wire, bedrock_wire, cohere_wire, google_wire, openai_wire
from .answer import output_cap, prompt_tokens
from .behaviour import Behaviour, Json
from .bill import Account, Bill, Tokens
from .http1 import ClientGoneError, Peer, Reply, Request
from .sse import Frame, Tape, dump

CHAT, MESSAGES, EMBEDDINGS = "/v1/chat/completions", "/v1/messages", "/v1/embeddings"
MODELS, MODEL_INFO, COUNT_TOKENS = "/v1/models", "/v1/model/info", "/v1/messages/count_tokens"
COHERE_CHAT, COHERE_EMBED = "/v2/chat", "/v2/embed"
_POSTS = (CHAT, MESSAGES, EMBEDDINGS, COUNT_TOKENS, COHERE_CHAT, COHERE_EMBED)
_YIELD_EVERY = 16


@dataclass(frozen=True, slots=True)
class Captured:
    """A request as it arrived. body: the parsed JSON, or None; raw: its bytes; at: `time.monotonic()`."""

    ordinal: int
    method: str
    path: str
    headers: dict[str, str]
    body: Any
    raw: bytes
    at: float


@dataclass(frozen=True, slots=True)
class Desk:
    """What an exchange needs from the server."""

    bill: Bill
    take: Callable[[str], Behaviour]
    models: Callable[[], list[str]]
    accepts: Callable[[str], bool]


def parsed(raw: bytes) -> Any:
    """JSON, or None."""
    try:
        return json.loads(raw) if raw else None
    except (ValueError, RecursionError):
        return None


class Exchange:
    """One request being answered."""

    def __init__(self, desk: Desk, peer: Peer, request: Request, captured: Captured) -> None:
        self.desk, self.peer, self.request, self.captured = desk, peer, request, captured
        path = request.path
        self.anthropic = path.startswith(MESSAGES) or "anthropic-version" in request.headers
        self.aws = bedrock_wire.action(path)
        self.wire: Any = anthropic_wire if self.anthropic else bedrock_wire if self.aws else openai_wire
        if path in (COHERE_CHAT, COHERE_EMBED):
            self.wire = cohere_wire
        self.google = google_wire.route(path)
        if self.google is not None or "x-goog-api-key" in request.headers or path == google_wire.VERTEX_LIST:
            self.wire = google_wire
        self.body: Json = captured.body if isinstance(captured.body, dict) else {}
        if self.aws:
            self.body = bedrock_wire.neutral(path, self.body)
        listing = path in (MODELS, google_wire.VERTEX_LIST) or self.aws == bedrock_wire.LISTING
        listing = listing or (path.startswith(MODELS + "/") and self.google is None)
        self.model = MODELS if listing else MODEL_INFO if path == MODEL_INFO else str(self.body.get("model") or "")
        if self.google is not None:
            self.model = self.google.model
            self.body = google_wire.as_chat(self.body, self.google) if self.google.chat else self.body
        elif path == google_wire.TOKEN_PATH:
            self.model = path
        self.behaviour = desk.take(self.model)
        self.reply = Reply(peer, self.behaviour, keep_alive=request.keep_alive)
        self.account: Account | None = None

    async def run(self) -> bool:
        """Answer; True if the connection may go on."""
        gone = False
        try:
            await self._answer()
            if self.reply.cut:
                await self.reply.end_cut()
        except ClientGoneError:
            gone = True
        finally:
            if self.account is not None:
                self.desk.bill.close(self.account, gone=gone)
        return self.reply.keep_alive and not gone

    async def _answer(self) -> None:
        request = self.request
        refusal = self._refusal()
        if refusal is not None:
            await self._plain(*refusal)
        elif (
            request.path in (CHAT, MESSAGES, COHERE_CHAT)
            or self.aws in bedrock_wire.CHATS
            or (self.google and self.google.chat)
        ):
            await self._completion()
        elif request.path in (EMBEDDINGS, COHERE_EMBED) or self.aws == bedrock_wire.INVOKE or self.google:
            await self._embeddings()
        elif request.path == google_wire.TOKEN_PATH:
            await self._plain(200, google_wire.token(self.captured.ordinal, self.behaviour))
        elif request.path == COUNT_TOKENS:
            await self._plain(200, {"input_tokens": prompt_tokens(self.body)})
        else:
            await self._plain(200, self._models())

    # What is refused

    def _error(self, status: int, message: str) -> tuple[int, Json]:
        return status, self.wire.error(status, message)

    def _refusal(self) -> tuple[int, Json | bytes] | None:
        """Status and body if this request is not accepted."""
        path, method, behaviour = self.request.path, self.request.method, self.behaviour
        if self.model == MODELS or (self.model == MODEL_INFO and behaviour.listing is not None):
            if method != "GET":
                return self._error(405, "Method not allowed.")
        elif path not in (*_POSTS, google_wire.TOKEN_PATH) and not self.aws and not self.google:
            return self._error(404, f"Invalid URL ({method} {path})")
        elif method != "POST":
            return self._error(405, "Method not allowed.")
        key, scripted = self.key(), behaviour.expected_key
        open_to_all = path == google_wire.TOKEN_PATH  # the claim itself says who asks
        if not open_to_all and not (self.desk.accepts(key) if scripted is None else key == scripted):
            by_key = "x-goog-api-key" in self.request.headers
            return 403 if self.aws else 400 if by_key else 401, self.wire.wrong_key(key)
        if behaviour.status != 200:
            return behaviour.status, self._error_body()
        if self.model in (MODEL_INFO, google_wire.TOKEN_PATH):
            return None
        if self.aws == bedrock_wire.LISTING:
            return None
        if self.model == MODELS:
            name = path[len(MODELS) + 1 :].replace("%2F", "/") if path.startswith(MODELS) else ""
            unknown = name and name not in self.desk.models()
            return self._error(404, f"The model '{name}' does not exist.") if unknown else None
        return self._bad_input()

    def _bad_input(self) -> tuple[int, Json] | None:
        """A 400 if the body is not one this endpoint takes."""
        path = self.request.path
        if self.google is not None:
            missing = google_wire.bad_input(self.captured.body, self.google)
            return self._error(400, missing) if missing else None
        if not isinstance(self.captured.body, dict):
            return self._error(400, "We could not parse the JSON body of your request.")
        if not isinstance(self.body.get("model"), str):
            return self._error(400, "you must provide a model parameter")
        if path in (EMBEDDINGS, COHERE_EMBED) or self.aws == bedrock_wire.INVOKE:
            without = self._inputs() is None
            return self._error(400, "'input' is a required property") if without else None
        if not isinstance(self.body.get("messages"), list):
            return self._error(400, "messages: Field required")
        if path == MESSAGES and output_cap(self.body) is None:
            return self._error(400, "max_tokens: Field required")
        return None

    def _error_body(self) -> Json | bytes:
        scripted, status = self.behaviour.error_body, self.behaviour.status
        if scripted is None:
            return self._error(status, f"The fake provider was told to answer {status}.")[1]
        return scripted.encode() if isinstance(scripted, str) else scripted

    def key(self) -> str:
        """The key the request carries, or nothing."""
        headers = self.request.headers
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return token.strip()
        return headers.get("x-goog-api-key") or headers.get("x-api-key", "")

    # What is accepted

    def _open(self, tokens: Tokens, *, stream: bool) -> Account:
        headers = self.request.headers
        named = headers.get("x-request-id") or headers.get("x-client-request-id")
        self.account = self.desk.bill.open(
            Account(
                request_id=named or str(self.captured.ordinal),
                model=self.model,
                path=self.request.path,
                stream=stream,
                key_last4=self.key()[-4:],
                planned=tokens,
                started=time.monotonic(),
            )
        )
        return self.account

    async def _completion(self) -> None:
        body, behaviour = self.body, self.behaviour
        stream = body.get("stream") is True
        created = int(time.time())
        wire = self.wire
        said = wire.answer(body, behaviour, ordinal=self.captured.ordinal, created=created)
        if stream:
            frames = wire.stream(said, behaviour, body)
            nothing = behaviour.empty_stream or not any(one.content or one.tokens for one in frames)
            failed = nothing and (behaviour.empty_stream or behaviour.in_band_error is not None)
            account = self._open(Tokens() if failed else said.tokens, stream=True)
            await self._stream(frames, account, complete=behaviour.in_band_error is None and not failed)
        elif behaviour.in_band_error is not None:
            self._open(Tokens(), stream=False)
            await self._plain(200, wire.in_band(behaviour.in_band_error))
        else:
            account = self._open(said.tokens, stream=False)
            await self._plain(200, wire.plain(said, behaviour), account)

    async def _embeddings(self) -> None:
        if self.google is not None:
            account = self._open(Tokens(prompt=google_wire.embedded(self.body)[1]), stream=False)
            await self._plain(200, google_wire.embeddings(self.body, self.behaviour, self.google), account)
            return
        inputs = self._inputs() or []
        prompt = self.behaviour.prompt_tokens
        if prompt is None:
            prompt = openai_wire.embedding_tokens(inputs)
        account = self._open(Tokens(prompt=prompt), stream=False)
        wire = cohere_wire if self.wire is cohere_wire else openai_wire
        vectors = wire.embeddings(self.body, inputs, self.behaviour, prompt)
        await self._plain(200, bedrock_wire.titan(vectors) if self.aws else vectors, account)

    def _inputs(self) -> list[Any] | None:
        """What is to be embedded; None if nothing is, or not as this dialect asks for it."""
        return cohere_wire.texts(self.body) if self.wire is cohere_wire else openai_wire.embedding_inputs(self.body)

    def _models(self) -> Any:
        if self.behaviour.listing is not None:
            return self.behaviour.listing
        names, created = self.desk.models(), 1735689600
        if self.aws:
            return bedrock_wire.models(names)
        if self.wire is google_wire:
            return google_wire.models(names, vertex=self.request.path == google_wire.VERTEX_LIST)
        name = self.request.path[len(MODELS) + 1 :].replace("%2F", "/")
        if self.anthropic:
            return anthropic_wire.model(name) if name else anthropic_wire.models(names)
        return openai_wire.model(name, created) if name else openai_wire.models(names, created)

    # How it is sent

    def _headers(self, kind: str) -> dict[str, str]:
        name = "request-id" if self.anthropic else "x-amzn-requestid" if self.aws else "x-request-id"
        headers = {"content-type": kind, name: f"fake-{self.captured.ordinal}"}
        behaviour = self.behaviour
        if behaviour.retry_after is not None:
            headers["retry-after"] = str(behaviour.retry_after)
        if behaviour.gzip:
            headers["content-encoding"] = "gzip"
        return headers | (behaviour.extra_headers or {})

    async def _plain(self, status: int, body: Any, account: Account | None = None) -> None:
        """Send a body with its length. The account is written first: who has read the answer can read the bill."""
        behaviour, reply = self.behaviour, self.reply
        if not isinstance(body, bytes):
            if behaviour.giant_line_bytes:
                body = body | {"padding": "x" * behaviour.giant_line_bytes}
            body = dump(body).encode("utf-8", "surrogatepass")
            if behaviour.bad_json and status == 200:
                body = body[: len(body) // 2]
        if behaviour.gzip:
            body = gzip.compress(body)
        head = reply.head(status, self._headers("application/json") | {"content-length": str(len(body))})
        fits = reply.fits(len(head), len(body))
        if behaviour.headers_first:
            await reply.send(head)
            head = b""
        await self.peer.pause(behaviour.delay_first_s)
        if account is not None:
            account.produced = account.planned.completion
            account.completed = fits == len(body)
        if not behaviour.split_at:
            await reply.send(head + body)
            return
        await reply.send(head)
        for payload, _ in _writes([Frame(body)], behaviour):
            if reply.cut:
                break
            await reply.send(payload)
            await asyncio.sleep(0)

    async def _stream(self, frames: list[Frame], account: Account, *, complete: bool) -> None:
        """Send frames as chunks; the account always holds what the next write completes."""
        behaviour, reply, peer = self.behaviour, self.reply, self.peer
        kind = bedrock_wire.STREAM_TYPE if self.aws else "text/event-stream; charset=utf-8"
        headers = self._headers(kind) | {"transfer-encoding": "chunked"}
        head = reply.head(200, headers)
        if behaviour.headers_first:
            await reply.send(head)
            head = b""
        await peer.pause(behaviour.delay_first_s)
        tape, done, total = Tape(frames), 0, sum(len(one.data) for one in frames)
        started = False
        writes = _writes(frames, behaviour)
        last = len(writes) - 1
        for number, (payload, content) in enumerate(writes):
            if reply.cut:
                return
            if content and started:
                await peer.pause(behaviour.delay_between_s)
            started = started or content
            prefix = b"%s%x\r\n" % (head, len(payload))
            head = b""
            fits = reply.fits(len(prefix), len(payload))
            if peer.gone.is_set():
                raise ClientGoneError
            done += fits
            account.produced = tape.at(done)
            account.completed = complete and done == total
            ending = b"\r\n0\r\n\r\n" if number == last else b"\r\n"
            await reply.send(prefix + payload + ending)
            if behaviour.split_at or number % _YIELD_EVERY == 0:
                await asyncio.sleep(0)
        if not writes and not reply.cut:
            await reply.send(head + b"0\r\n\r\n")


def _writes(frames: list[Frame], behaviour: Behaviour) -> list[tuple[bytes, bool]]:
    """The payloads to write, each with whether it is a piece of content (before which delays apply)."""
    if not behaviour.split_at:
        return [(one.data, one.content) for one in frames]
    whole = b"".join(one.data for one in frames)
    found, start, number = [], 0, 0
    while start < len(whole):
        size = behaviour.split_at[number % len(behaviour.split_at)]
        found.append((whole[start : start + size], True))
        start += size
        number += 1
    return found
