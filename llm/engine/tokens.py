"""How many tokens a request has: an estimate for routing, and a bound that no tokenizer can pass, for the hold.

The estimate's factors were fitted against o200k (ratio to truth: English 1.07, Python 1.09, JSON 1.03, Chinese 1.06,
Russian 1.31, German 0.86). The bound counts UTF-8 bytes: no byte-pair tokenizer makes more than one token of a byte.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

PER_MESSAGE = 64
WITH_TOOLS = 2048
SAMPLE = 16_384
# The most that one image costs, as published: OpenAI's dearest (gpt-4o-mini, 2,833 + 8 tiles of 5,667), Anthropic's
# largest image after its own scaling. Other dialects publish none: then it is the context window.
IMAGE_MAX = {"openai": 48_169, "anthropic": 4_784, "sandbox": 85}

_WORDS = re.compile(r"[A-Za-z]+")
_DIGITS = re.compile(r"[0-9]+")
_LINES = re.compile(r"\n[ \t\n]*")
_MARKS = re.compile(r"[!-/:-@\[-`{-~]")
_OTHERS = re.compile(r"[^\x00-\x7f]")
_WORD = [0.0] + [max(1.0, length / 5.5) if length <= 40 else length / 1.4 for length in range(1, 256)]
# Body fields that are counted by themselves, or that no model reads.
_SETTINGS = frozenset(
    {
        *("messages", "model", "tools", "functions", "tool_choice", "function_call", "response_format"),
        *("temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty"),
        *("max_tokens", "max_completion_tokens", "n", "stream", "stream_options", "stop", "seed", "logprobs"),
        *("top_logprobs", "logit_bias", "parallel_tool_calls", "reasoning_effort", "verbosity", "modalities"),
        *("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"),
        *("power_level", "task_type", "priority", "config"),
    }
)
_TEXT_FIELDS = ("content", "name", "tool_call_id", "reasoning_content", "refusal")
_SAID = frozenset({*_TEXT_FIELDS, "role", "tool_calls", "function_call"})


@dataclass(slots=True)
class Size:
    """What a request's input is made of. `bounded` is False if a part of it has no published maximum; `tools` is True
    if the provider may have to be told of tools. `inputs`: how many texts each have a context window to themselves;
    `longest` is the estimate of the longest of them."""

    estimate: int = 0
    text_bytes: int = 0
    messages: int = 0
    images: int = 0
    tools: bool = False
    bounded: bool = True
    inputs: int = 1
    longest: int | None = None

    def bound(self, context_window: int, dialect: str) -> int:
        """The most input tokens this can be at a model of that dialect."""
        context_window *= self.inputs
        if not self.bounded or (self.images and dialect not in IMAGE_MAX):
            return context_window
        most = self.text_bytes + PER_MESSAGE * self.messages + self.images * IMAGE_MAX.get(dialect, 0)
        return min(context_window, most + (WITH_TOOLS if self.tools else 0))


def utf8_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def estimate(text: str) -> int:
    """Tokens of `text`, about. Long texts are judged by their beginning and end."""
    length = len(text)
    if length > 2 * SAMPLE:
        sampled = _estimate(text[:SAMPLE]) + _estimate(text[-SAMPLE:])
        return math.ceil(sampled * length / (2 * SAMPLE))
    return math.ceil(_estimate(text))


def _estimate(text: str) -> float:
    tokens = sum(_word(len(word)) for word in _WORDS.findall(text))
    tokens += sum(-(-len(digits) // 3) for digits in _DIGITS.findall(text))
    tokens += 0.7 * (len(_MARKS.findall(text)) + len(_LINES.findall(text)))
    if not text.isascii():
        tokens += sum(_other_character(ord(other)) for other in _OTHERS.findall(text))
    return tokens


def _word(length: int) -> float:
    return _WORD[length] if length < 256 else length / 1.4


def _other_character(code: int) -> float:
    if 0x2E80 <= code <= 0x9FFF or 0xAC00 <= code <= 0xD7AF or 0xF900 <= code <= 0xFAFF or code >= 0x20000:
        return 0.8
    return 0.45 if code >= 0x0900 else 0.28


def output_estimate(utf8_bytes: int) -> int:
    """Tokens of produced text when no count came: four bytes a token, in every script within a third."""
    return -(-utf8_bytes // 4)


def measure(body: Mapping[str, Any]) -> Size:
    """The size of a chat request shaped like OpenAI's (validated: messages is a list of objects)."""
    size = Size()
    messages = body["messages"]
    size.messages = len(messages)
    size.estimate = 3 * size.messages
    for message in messages:
        _message(size, message)
    for name in ("tools", "functions"):
        if body.get(name):
            size.tools = True
            _json(size, body[name])
    for name in body.keys() - _SETTINGS:
        # Unknown fields travel to the provider: they may be text that the model reads.
        if body[name] is not None:
            _json(size, body[name])
    wanted = body.get("response_format")
    if wanted:
        # Where a dialect has no schema of its own, a tool or an instruction stands in for it.
        size.tools = size.tools or wanted.get("type") != "text"
        _json(size, wanted)
    return size


def measure_inputs(inputs: list[Any], rest: Mapping[str, Any]) -> Size:
    """The size of inputs that are read one by one: texts, or lists of token ids. `rest`: unknown fields, which may be
    text that goes with each."""
    size = Size(messages=len(inputs), inputs=len(inputs), longest=0)
    extra = len(orjson.dumps(rest)) if rest else 0
    for one in inputs:
        length = utf8_length(one) if isinstance(one, str) else len(one)
        about = 1 + extra // 4 + (estimate(one) if isinstance(one, str) else length)
        size.text_bytes += length + extra
        size.estimate += about
        size.longest = max(size.longest or 0, about)
    return size


def _message(size: Size, message: Mapping[str, Any]) -> None:
    for name in _TEXT_FIELDS:
        value = message.get(name)
        if isinstance(value, str):
            _text(size, value)
        elif isinstance(value, list):
            _parts(size, value)
    for name in ("tool_calls", "function_call"):
        if message.get(name):
            # A dialect may have to define the tools that a conversation has called before.
            size.tools = True
            _json(size, message[name])
    for name in message.keys() - _SAID:
        if message[name] is not None:
            _json(size, message[name])
    if message.get("audio"):
        size.bounded = False  # it names an earlier answer's audio, whose length is not known here


def _text(size: Size, text: str) -> None:
    size.text_bytes += utf8_length(text)
    size.estimate += estimate(text)


def _json(size: Size, value: Any) -> None:
    dumped = orjson.dumps(value)
    size.text_bytes += len(dumped)
    size.estimate += len(dumped) // 4


def _parts(size: Size, parts: Iterable[Any]) -> None:
    for part in parts:
        if not isinstance(part, Mapping):
            continue
        kind = part.get("type")
        text = part.get("text") if kind == "text" else part.get("refusal") if kind == "refusal" else None
        if isinstance(text, str):
            _text(size, text)
            if len(part) > 2:
                _json(size, {name: value for name, value in part.items() if name not in ("type", "text")})
        elif kind == "image_url":
            size.images += 1
            size.estimate += 1_500
        else:
            # Audio, files, whatever comes next: no published maximum that we know.
            size.bounded = False
            size.estimate += 2_000
