"""From a request and a behaviour to an `Answer`: its pieces, their tokens, and the usage. Pure; no wire format here.

How tokens are counted (simple on purpose, so that a test can do it by hand):
    completion: whitespace-separated words of reasoning and text; a tool call is 1 plus the words of its arguments.
    prompt: 3 per message, plus the words of all text (system included), 85 per image, and a quarter of the bytes of the
        compact JSON of tool schemas and tool inputs. At least 1.
    embeddings: words of the inputs, or the length of token arrays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any

from .behaviour import DEFAULT_TEXT, Behaviour, Json
from .bill import Tokens

SANE_TOKENS = 10_000_000
IMAGE_TOKENS = 85
MESSAGE_TOKENS = 3
_WORD = re.compile(r"\s*\S+")


@dataclass(frozen=True, slots=True)
class Piece:
    """One step of the output. kind: reasoning, text or tool; `first` opens the tool call number `tool`."""

    kind: str
    text: str
    tokens: int = 0
    tool: int = 0
    first: bool = False


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool call in full."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything a dialect needs to write the answer.

    shares[c][i] are the tokens of piece i in choice c; the last number of each row belongs to its finish.
    reported is None (say nothing) or the neutral usage; finish is stop, length or tool_calls.
    """

    id: str
    model: str
    created: int
    text: str
    reasoning: str
    tools: tuple[Tool, ...]
    pieces: tuple[Piece, ...]
    shares: tuple[tuple[int, ...], ...]
    finish: str
    tokens: Tokens
    reported: Json | None


def plan(body: Json, behaviour: Behaviour, *, answer_id: str, created: int, choices: int) -> Answer:
    """What will be said, honouring the request's cap on each choice."""
    cap = output_cap(body)
    pieces, tools, clipped = _pieces(body, behaviour, cap, answer_id)
    honest = sum(piece.tokens for piece in pieces)
    reasoning_words = sum(piece.tokens for piece in pieces if piece.kind == "reasoning")
    tokens = _tokens(body, behaviour, honest * choices, reasoning_words * choices, (cap or 0) * choices)
    whole = behaviour.bill_whole_cap and cap is not None
    return Answer(
        id=answer_id,
        model=str(body.get("model")),
        created=created,
        text="".join(piece.text for piece in pieces if piece.kind == "text"),
        reasoning="".join(piece.text for piece in pieces if piece.kind == "reasoning"),
        tools=tools,
        pieces=pieces,
        shares=_shares(pieces, tokens.completion, honest, choices),
        finish="length" if clipped or whole else "tool_calls" if tools else "stop",
        tokens=tokens,
        reported=_reported(tokens, behaviour),
    )


def output_cap(body: Json) -> int | None:
    """The request's limit on output tokens, or None."""
    for name in ("max_completion_tokens", "max_tokens"):
        value = body.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def prompt_tokens(body: Json) -> int:
    """The honest count of the input (see the module's docstring)."""
    messages = body.get("messages") or []
    total = _count(body.get("system"))
    for message in messages:
        total += MESSAGE_TOKENS
        if isinstance(message, dict):
            total += _count(message.get("content"))
            total += _json_tokens(message.get("tool_calls"))
    return max(1, total + _json_tokens(body.get("tools")))


def words(text: str) -> int:
    """Whitespace-separated words."""
    return len(text.split())


def _count(content: Any) -> int:
    """Tokens of a message's content: a string, parts, or nothing."""
    if isinstance(content, str):
        return words(content)
    if isinstance(content, list):
        return sum(_count(part) for part in content)
    if not isinstance(content, dict):
        return 0
    if content.get("type") in ("image", "image_url", "input_image"):
        return IMAGE_TOKENS
    return _count(content.get("text")) + _count(content.get("content")) + _json_tokens(content.get("input"))


def _json_tokens(value: Any) -> int:
    return len(json.dumps(value, separators=(",", ":")).encode()) // 4 if value else 0


def _pieces(
    body: Json, behaviour: Behaviour, cap: int | None, answer_id: str
) -> tuple[tuple[Piece, ...], tuple[Tool, ...], bool]:
    """The pieces of one choice within the cap: reasoning, text, tool calls; and whether the cap cut anything."""
    left = SANE_TOKENS if cap is None else cap
    calls = behaviour.tool_calls if body.get("tools") else ()
    found: list[Piece] = []
    tools: list[Tool] = []
    clipped = False
    counted = behaviour.chunks if isinstance(behaviour.chunks, int) else None
    spoken: list[tuple[str, str, int | Sequence[str] | None]] = [
        ("reasoning", behaviour.reasoning or "", counted),
        ("text", _text(body, behaviour, bool(calls)), behaviour.chunks),
    ]
    for kind, wanted, chunks in spoken:
        said = _clip(wanted, left)
        clipped |= said != wanted
        cuts = chunks if chunks is None or isinstance(chunks, int) else tuple(chunks)
        found += _spoken(kind, said, cuts)
        left -= words(said)
    for index, call in enumerate(calls):
        if left < 1:
            clipped = True
            break
        wanted = call.get("arguments", "{}")
        wanted = wanted if isinstance(wanted, str) else json.dumps(wanted, separators=(",", ":"), ensure_ascii=False)
        said = _clip(wanted, left - 1)
        clipped |= said != wanted
        left -= 1 + words(said)
        name = "toolu" if answer_id.startswith("msg") else "call"
        tools.append(Tool(str(call.get("id") or f"{name}_{answer_id[-6:]}_{index}"), str(call["name"]), said))
        found += _tool_pieces(said, index, behaviour.omit_tool_index)
    return tuple(found), tuple(tools), clipped


@lru_cache(maxsize=256)
def _spoken(kind: str, said: str, chunks: int | tuple[str, ...] | None) -> tuple[Piece, ...]:
    """The pieces of a text; remembered, since a load test says the same thing a thousand times."""
    return tuple(Piece(kind, text, count) for text, count in _split(said, chunks))


def _text(body: Json, behaviour: Behaviour, has_tools: bool) -> str:
    if behaviour.chunks is not None and not isinstance(behaviour.chunks, int):
        return "".join(behaviour.chunks)
    if behaviour.text is not None:
        return behaviour.text
    if has_tools:
        return ""
    wanted = body.get("response_format")
    if isinstance(wanted, dict) and wanted.get("type") == "json_schema":
        return '{"answer": "42"}'
    return DEFAULT_TEXT


def _tool_pieces(arguments: str, index: int, whole: bool) -> list[Piece]:
    """A call as its name and up to three fragments; whole: in one piece, as vendors without an index do."""
    if whole:
        return [Piece("tool", arguments, 1 + words(arguments), index, first=True)]
    opened = Piece("tool", "", 1, index, first=True)
    return [opened, *(Piece("tool", text, count, index) for text, count in _split(arguments, -3))]


def _clip(text: str, left: int) -> str:
    """The first `left` words, or the text itself if it has no more."""
    if words(text) <= left:
        return text
    return "".join(_WORD.findall(text)[: max(0, left)])


def _split(text: str, chunks: int | Sequence[str] | None) -> list[tuple[str, int]]:
    """Pieces with their tokens. A negative number splits by characters, as does one beyond the number of words."""
    if not text:
        return []
    if chunks is None or isinstance(chunks, int):
        units: list[str] = _WORD.findall(text) or [text]
        rest = text[sum(map(len, units)) :]
        units[-1] += rest
        if chunks is not None:
            if not 0 < chunks <= len(units):
                units = list(text)
            count = max(1, min(abs(chunks), len(units)))
            edges = [len(units) * i // count for i in range(count + 1)]
            units = ["".join(units[a:b]) for a, b in pairwise(edges)]
    else:
        ends = accumulate(map(len, chunks))
        units = [text[end - len(part) : end] for part, end in zip(chunks, ends, strict=True)]
        units = [unit for unit, part in zip(units, chunks, strict=True) if unit or not part]
    return list(zip(units, _counts(units), strict=True))


def _counts(units: Sequence[str]) -> list[int]:
    """New words begun by each unit, so that the counts add up to the words of the whole."""
    counts: list[int] = []
    inside = False
    for unit in units:
        starts_inside = inside and unit[:1] != "" and not unit[:1].isspace()
        counts.append(words(unit) - (1 if starts_inside else 0))
        if unit:
            inside = not unit[-1].isspace()
    return counts


def _tokens(body: Json, behaviour: Behaviour, honest: int, reasoning: int, whole: int) -> Tokens:
    """What will be billed if all is sent: the explicit fields, else sane reported values, else the honest counts."""
    claimed = behaviour.usage if isinstance(behaviour.usage, dict) else {}
    prompt = behaviour.prompt_tokens
    if prompt is None:
        prompt = sane(claimed.get("prompt_tokens"), prompt_tokens(body))
    completion = behaviour.completion_tokens
    if completion is None:
        completion = whole if behaviour.bill_whole_cap and whole else sane(claimed.get("completion_tokens"), honest)
    return Tokens(
        prompt=prompt,
        completion=completion,
        cached=sane(claimed.get("cached_tokens"), 0),
        cache_creation=sane(claimed.get("cache_creation_tokens"), 0),
        cache_creation_1h=sane(claimed.get("cache_creation_1h_tokens"), 0),
        reasoning=sane(claimed.get("reasoning_tokens"), min(reasoning, completion)),
    )


def sane(value: Any, otherwise: int) -> int:
    """The value if a provider could mean it."""
    good = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= SANE_TOKENS
    return int(value) if good else otherwise


def _reported(tokens: Tokens, behaviour: Behaviour) -> Json | None:
    if behaviour.usage == "none":
        return None
    neutral: Json = {
        "prompt_tokens": tokens.prompt,
        "completion_tokens": tokens.completion,
        "cached_tokens": tokens.cached,
        "cache_creation_tokens": tokens.cache_creation,
        "cache_creation_1h_tokens": tokens.cache_creation_1h,
        "reasoning_tokens": tokens.reasoning,
    }
    return neutral | behaviour.usage if isinstance(behaviour.usage, dict) else neutral


def _shares(pieces: tuple[Piece, ...], total: int, honest: int, choices: int) -> tuple[tuple[int, ...], ...]:
    """Tokens of each piece, each choice; an overridden total is spread evenly, all of it on the finish if no pieces."""
    if total == honest * choices:
        return ((*(piece.tokens for piece in pieces), 0),) * choices
    parts = _even(total, choices)
    return tuple((*_even(part, len(pieces)), 0) if pieces else (part,) for part in parts)


def _even(total: int, parts: int) -> list[int]:
    return [total * (i + 1) // parts - total * i // parts for i in range(parts)]
