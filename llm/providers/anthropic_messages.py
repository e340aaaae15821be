"""A chat's messages as Anthropic's: a system prompt and turns that alternate.

System and developer messages are taken out in order, wherever they stand. Messages of one side in a row become one
turn, tool results first in theirs, as Anthropic wants them. Empty text, which it refuses, is left out.
"""

import re
from typing import Any

import orjson

from llm.errors import InvalidRequest

Json = dict[str, Any]
_IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)(?:;[\w.=+-]+)*;base64,", re.ASCII | re.IGNORECASE)
_NOT_IN_IDS = re.compile(r"[^a-zA-Z0-9_-]")
_NATIVE = ("document", "search_result")  # Anthropic's own parts, for who knows them


def system_and_turns(messages: list[Any]) -> tuple[list[Json], list[Json]]:
    """(system blocks, turns). Raises InvalidRequest naming `messages[i].content[j]`."""
    system: list[Json] = []
    turns: list[Json] = []
    for position, message in enumerate(messages):
        where = f"messages[{position}]"
        if not isinstance(message, dict):
            raise InvalidRequest("A message must be an object.", param=where)
        role = message.get("role")
        if role in ("system", "developer"):
            system += _text_only(message.get("content"), where)
        elif role == "user":
            _add(turns, "user", _parts(message.get("content"), where))
        elif role == "assistant":
            _add(turns, "assistant", _assistant(message, where))
        elif role == "tool":
            _add(turns, "user", [_tool_result(message, where)])
        else:
            raise InvalidRequest(f"The role {role!r:.40} is not known to this model's API.", param=f"{where}.role")
    if not turns and system:  # a chat of instructions alone: they are what is to be answered
        system, turns = [], [{"role": "user", "content": system}]
    if not turns:
        raise InvalidRequest("There is no message with content.", param="messages")
    return system, _settled(turns)


def called_tools(turns: list[Json]) -> list[str]:
    """Names of the tools that were called, in order."""
    names = (block["name"] for turn in turns for block in turn["content"] if block["type"] == "tool_use")
    return list(dict.fromkeys(names))


def resumes_without_thinking(turns: list[Json]) -> bool:
    """True if the last turn answers tool calls of a turn without thinking: then a thinking budget is refused."""
    if len(turns) < 2 or not any(block["type"] == "tool_result" for block in turns[-1]["content"]):
        return False
    return turns[-2]["content"][0]["type"] not in ("thinking", "redacted_thinking")


def _settled(turns: list[Json]) -> list[Json]:
    for turn in turns:
        if turn["role"] == "user":
            turn["content"].sort(key=lambda block: block["type"] != "tool_result")
    if turns[0]["role"] == "assistant":
        turns.insert(0, {"role": "user", "content": [{"type": "text", "text": "."}]})
    last = turns[-1]
    if last["role"] == "assistant" and last["content"][-1]["type"] == "text":
        last["content"][-1]["text"] = last["content"][-1]["text"].rstrip() or "."  # a prefill must not end in space
    return turns


def _add(turns: list[Json], role: str, blocks: list[Json]) -> None:
    if not blocks:
        return
    if turns and turns[-1]["role"] == role:
        turns[-1]["content"] += blocks
    else:
        turns.append({"role": role, "content": blocks})


def _text_only(content: Any, where: str) -> list[Json]:
    blocks = _parts(content, where)
    if any(block["type"] != "text" for block in blocks):
        raise InvalidRequest("A system message can hold text only.", param=f"{where}.content")
    return blocks


def _parts(content: Any, where: str) -> list[Json]:
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content.strip() else []
    if not isinstance(content, list):
        raise InvalidRequest("Content must be text or a list of parts.", param=f"{where}.content")
    blocks = []
    for position, part in enumerate(content):
        block = _part(part, f"{where}.content[{position}]")
        if block is not None:
            blocks.append(block)
    return blocks


def _part(part: Any, where: str) -> Json | None:
    kind = part.get("type") if isinstance(part, dict) else None
    block: Json
    if kind in ("text", "refusal"):
        text = part.get(kind)
        if not isinstance(text, str):
            raise InvalidRequest("The text of this part is missing.", param=where)
        if not text.strip():
            return None
        block = {"type": "text", "text": text}
    elif kind == "image_url":
        image = part.get("image_url")
        block = {"type": "image", "source": _source(image.get("url") if isinstance(image, dict) else image, where)}
    elif kind == "file":
        block = _document(part.get("file"), where)
    elif kind in _NATIVE:
        return dict(part)
    else:
        raise InvalidRequest(f"This model's API has no content part of type {str(kind)[:40]!r}.", param=where)
    if isinstance(part.get("cache_control"), dict):
        block["cache_control"] = part["cache_control"]
    return block


def _source(url: Any, where: str) -> Json:
    if not isinstance(url, str):
        raise InvalidRequest("The image's URL is missing.", param=where)
    if url.startswith("https://"):
        return {"type": "url", "url": url}
    found = _DATA_URL.match(url)
    media = found[1].lower().replace("image/jpg", "image/jpeg") if found else ""
    if found is None or media not in _IMAGE_TYPES:
        raise InvalidRequest(
            "An image must be an https URL, or a base64 data URL of a JPEG, PNG, GIF or WebP.", param=where
        )
    return {"type": "base64", "media_type": media, "data": url[found.end() :]}


def _document(file: Any, where: str) -> Json:
    file = file if isinstance(file, dict) else {}
    data = file.get("file_data")
    found = _DATA_URL.match(data) if isinstance(data, str) else None
    if found is None or found[1].lower() != "application/pdf":
        raise InvalidRequest("A file must be given as `file_data`, a base64 data URL of a PDF.", param=where)
    source = {"type": "base64", "media_type": "application/pdf", "data": data[found.end() :]}
    block: Json = {"type": "document", "source": source}
    if isinstance(file.get("filename"), str):
        block["title"] = file["filename"]
    return block


def _assistant(message: Json, where: str) -> list[Json]:
    """Thinking first, then text, then tool calls. Reasoning without its signature cannot be taken back: left out."""
    blocks = [dict(block) for block in _list(message.get("thinking_blocks")) if _signed(block)]
    blocks += _parts(message.get("content"), where)
    if isinstance(message.get("refusal"), str) and message["refusal"].strip() and not message.get("content"):
        blocks.append({"type": "text", "text": message["refusal"]})
    if message.get("function_call"):
        raise InvalidRequest(
            "`function_call` is not supported by this model. Use `tool_calls`.", param=f"{where}.function_call"
        )
    for position, call in enumerate(_list(message.get("tool_calls"))):
        blocks.append(_tool_use(call, f"{where}.tool_calls[{position}]"))
    return blocks


def _signed(block: Any) -> bool:
    if not isinstance(block, dict):
        return False
    if block.get("type") == "redacted_thinking":
        return bool(block.get("data"))
    return block.get("type") == "thinking" and bool(block.get("signature"))


def _tool_use(call: Any, where: str) -> Json:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise InvalidRequest("A tool call needs a `function` with a `name`.", param=where)
    return {
        "type": "tool_use",
        "id": _id(call.get("id"), where),
        "name": function["name"],
        "input": _input(function.get("arguments")),
    }


def _input(arguments: Any) -> Json:
    """Arguments as the object Anthropic wants. A model's broken JSON is kept as text, so that the chat can go on."""
    if isinstance(arguments, dict):
        return arguments
    try:
        found = orjson.loads(arguments or "{}")
    except (orjson.JSONDecodeError, TypeError):
        found = None
    return found if isinstance(found, dict) else {"arguments": str(arguments)}


def _tool_result(message: Json, where: str) -> Json:
    block: Json = {"type": "tool_result", "tool_use_id": _id(message.get("tool_call_id"), where)}
    content = _parts(message.get("content"), where)
    if content:
        block["content"] = content
    if message.get("is_error") is True:
        block["is_error"] = True
    if isinstance(message.get("cache_control"), dict):
        block["cache_control"] = message["cache_control"]
    return block


def _id(given: Any, where: str) -> str:
    """The same id in call and result, of the characters Anthropic allows (Kimi's ids hold dots and colons)."""
    if not isinstance(given, str) or not given:
        raise InvalidRequest("The tool call's id is missing.", param=where)
    return _NOT_IN_IDS.sub("_", given)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
