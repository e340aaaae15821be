"""A chat's messages as Cohere's Chat API v2 takes them.

System and developer messages are taken out in order, wherever they stand, and become the first one: "system turn must
be the first in the list". Empty text, which it refuses, is left out. Reasoning goes back as the model gave it: a
reasoning model's as a `thinking` block, another's as the `tool_plan` of its tool calls.
"""

from typing import Any

import orjson

from llm.errors import InvalidRequest

Json = dict[str, Any]


def messages(given: Any, *, reasoning: bool) -> tuple[list[Json], list[str]]:
    """(messages, names of what was dropped). Raises InvalidRequest naming `messages[i].content[j]`."""
    system: list[Json] = []
    turns: list[Json] = []
    dropped: list[str] = []
    for position, message in enumerate(given if isinstance(given, list) else []):
        where = f"messages[{position}]"
        if not isinstance(message, dict):
            raise InvalidRequest("A message must be an object.", param=where)
        role = message.get("role")
        if role in ("system", "developer"):
            system += _parts(message.get("content"), where, texts_only=True)
        elif role == "user":
            turns += _turn("user", _parts(message.get("content"), where))
        elif role == "assistant":
            turns += _assistant(message, where, reasoning, dropped)
        elif role == "tool":
            turns.append(_tool_result(message, where))
        else:
            raise InvalidRequest(f"The role {role!r:.40} is not known to this model's API.", param=f"{where}.role")
    if not turns and system:  # a chat of instructions alone: they are what is to be answered
        system, turns = [], _turn("user", system)
    if not turns:
        raise InvalidRequest("There is no message with content.", param="messages")
    return [*_turn("system", system), *turns], dropped


def _turn(role: str, parts: list[Json]) -> list[Json]:
    return [{"role": role, "content": _plain(parts)}] if parts else []


def _plain(parts: list[Json]) -> str | list[Json]:
    """A lone text as a string: every Cohere model takes that."""
    if len(parts) == 1 and parts[0]["type"] == "text":
        return str(parts[0]["text"])
    return parts


def _parts(content: Any, where: str, *, texts_only: bool = False) -> list[Json]:
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content.strip() else []
    if not isinstance(content, list):
        raise InvalidRequest("Content must be text or a list of parts.", param=f"{where}.content")
    found = []
    for position, part in enumerate(content):
        block = _part(part, f"{where}.content[{position}]", texts_only)
        if block is not None:
            found.append(block)
    return found


def _part(part: Any, where: str, texts_only: bool) -> Json | None:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in ("text", "refusal"):
        text = part.get(kind)
        if not isinstance(text, str):
            raise InvalidRequest("The text of this part is missing.", param=where)
        return {"type": "text", "text": text} if text.strip() else None
    if kind == "image_url" and not texts_only:
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, dict) else image
        if not isinstance(url, str) or not url.startswith(("https://", "http://", "data:")):
            raise InvalidRequest("An image must be a web URL or a base64 data URL.", param=where)
        detail = image.get("detail") if isinstance(image, dict) else None
        return {"type": "image_url", "image_url": {"url": url} | ({"detail": detail} if detail else {})}
    raise InvalidRequest(
        f"This model's API has no content part of type {str(kind)[:40]!r} here.",
        param=where,
        code="unsupported_parameter",
    )


def _assistant(message: Json, where: str, reasoning: bool, dropped: list[str]) -> list[Json]:
    if message.get("function_call"):
        raise InvalidRequest(
            "`function_call` is not supported by this model. Use `tool_calls`.", param=f"{where}.function_call"
        )
    parts = _parts(message.get("content"), where, texts_only=True)
    refusal = message.get("refusal")
    if isinstance(refusal, str) and refusal.strip() and not parts:
        parts = [{"type": "text", "text": refusal}]
    given = message.get("tool_calls")
    calls = [
        _tool_call(call, f"{where}.tool_calls[{position}]")
        for position, call in enumerate(given if isinstance(given, list) else [])
    ]
    turn: Json = {"role": "assistant"}
    thought = _thought(message)
    if thought and reasoning:
        parts.insert(0, {"type": "thinking", "thinking": thought})
    elif thought and calls:
        turn["tool_plan"] = thought
    elif thought:
        dropped.append("reasoning_content")
    if calls:
        turn["tool_calls"] = calls
    if parts:
        turn["content"] = _plain(parts)
    return [turn] if parts or calls else []


def _thought(message: Json) -> str:
    """The reasoning of an earlier answer. Signatures are other vendors': Cohere has none."""
    said = message.get("reasoning_content")
    if isinstance(said, str):
        return said
    blocks = message.get("thinking_blocks")
    texts = (one.get("thinking") for one in blocks if isinstance(one, dict)) if isinstance(blocks, list) else ()
    return "".join(text for text in texts if isinstance(text, str))


def _tool_call(call: Any, where: str) -> Json:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise InvalidRequest("A tool call needs a `function` with a `name`.", param=where)
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        arguments = orjson.dumps(arguments or {}).decode()
    return {
        "id": _id(call.get("id"), where),
        "type": "function",
        "function": {"name": function["name"], "arguments": arguments or "{}"},
    }


def _tool_result(message: Json, where: str) -> Json:
    parts = _parts(message.get("content"), where, texts_only=True)
    return {
        "role": "tool",
        "tool_call_id": _id(message.get("tool_call_id"), where),
        "content": _plain(parts) if parts else "",
    }


def _id(given: Any, where: str) -> str:
    if not isinstance(given, str) or not given:
        raise InvalidRequest("The tool call's id is missing.", param=where)
    return given
