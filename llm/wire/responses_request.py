"""A Responses request as a chat completion request. It is checked already: see responses_schema.

Items of one turn of the assistant (reasoning, text, calls) are one chat message, since chat wants all calls that were
made at once in the message before their results.
"""

from typing import Any

from llm.errors import InvalidRequest
from llm.wire.responses_reasoning import unsealed
from llm.wire.responses_schema import TEXTS

Json = dict[str, Any]

# Fields that are put into other words, concern the answer alone, or say what is so anyway.
_TRANSLATED = frozenset(
    {
        *("input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "max_output_tokens", "top_logprobs"),
        *("text", "reasoning", "include", "metadata", "store", "stream_options", "truncation", "max_tool_calls"),
        *("background", "n"),
    }
)
_CALL_FIELDS = frozenset({"type", "id", "call_id", "name", "arguments", "input", "status", "namespace", "caller"})
_PART_FIELDS = frozenset(
    {
        *("type", "text", "annotations", "logprobs", "image_url", "detail", "file_id"),
        *("file_data", "file_url", "filename", "input_audio"),
    }
)
_TOOL_FIELDS = frozenset(
    {
        *("type", "name", "description", "parameters", "strict", "format"),
        *("defer_loading", "async", "allowed_callers", "output_schema"),
    }
)


def chat_body(body: Json) -> Json:
    """The chat body. Fields that both APIs call the same, and unknown ones, are as they were. Raises InvalidRequest."""
    chat: Json = {name: value for name, value in body.items() if value is not None and name not in _TRANSLATED}
    chat["messages"] = _messages(body)
    if body.get("max_output_tokens") is not None:
        chat["max_completion_tokens"] = body["max_output_tokens"]
    _tools(body, chat)
    _text(body.get("text") or {}, chat)
    effort = (body.get("reasoning") or {}).get("effort")
    if effort is not None:
        chat["reasoning_effort"] = effort
    if body.get("top_logprobs") or "message.output_text.logprobs" in (body.get("include") or ()):
        chat["logprobs"] = True
        if body.get("top_logprobs"):
            chat["top_logprobs"] = body["top_logprobs"]
    return chat


def _text(given: Json, chat: Json) -> None:
    if given.get("verbosity") is not None:
        chat["verbosity"] = given["verbosity"]
    wanted = given.get("format") or {"type": "text"}
    if wanted["type"] == "json_schema":
        schema = {name: value for name, value in wanted.items() if name != "type" and value is not None}
        chat["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif wanted["type"] == "json_object":
        chat["response_format"] = {"type": "json_object"}


# --- tools ------------------------------------------------------------------------------------------------------------


def _tools(body: Json, chat: Json) -> None:
    tools = body.get("tools") or []
    choice = body.get("tool_choice")
    if not tools:
        if choice not in (None, "auto", "none"):
            raise InvalidRequest("`tool_choice` asks for a tool, and there are no `tools`.", param="tool_choice")
        return  # chat refuses a choice without tools
    chat["tools"] = [_tool(tool) for tool in tools]
    if choice is not None:
        chat["tool_choice"] = choice if isinstance(choice, str) else _choice(choice, {tool["name"] for tool in tools})
    if body.get("parallel_tool_calls") is not None:
        chat["parallel_tool_calls"] = body["parallel_tool_calls"]


def _tool(tool: Json) -> Json:
    kind = tool["type"]
    names = ("name", "description", "parameters", "strict") if kind == "function" else ("name", "description")
    inner: Json = {name: tool[name] for name in names if tool.get(name) is not None}
    syntax = tool.get("format")
    if kind == "custom" and syntax:
        rest = {name: value for name, value in syntax.items() if name != "type"}
        inner["format"] = {"type": syntax.get("type"), "grammar": rest} if rest else syntax
    rest = {name: value for name, value in tool.items() if name not in _TOOL_FIELDS}
    return {"type": kind, kind: inner, **rest}


def _choice(choice: Json, names: set[str]) -> Json:
    kind = choice["type"]
    if kind != "allowed_tools":
        _known(choice["name"], names, "tool_choice.name")
        return {"type": kind, kind: {"name": choice["name"]}}
    allowed = []
    for position, one in enumerate(choice["tools"]):
        _known(one["name"], names, f"tool_choice.tools[{position}].name")
        inner = "custom" if one.get("type") == "custom" else "function"
        allowed.append({"type": inner, inner: {"name": one["name"]}})
    return {"type": kind, kind: {"mode": choice["mode"], "tools": allowed}}


def _known(name: str, names: set[str], where: str) -> None:
    if name not in names:
        raise InvalidRequest(f"`{where}` names a tool that is not among `tools`.", param=where)


# --- messages ---------------------------------------------------------------------------------------------------------


def _messages(body: Json) -> list[Json]:
    messages: list[Json] = []
    if body.get("instructions"):
        messages.append({"role": "system", "content": body["instructions"]})
    given = body["input"]
    if isinstance(given, str):
        return [*messages, {"role": "user", "content": given}]
    turn: Json | None = None  # the assistant's, as long as its items go on
    for position, item in enumerate(given):
        kind = item.get("type") or "message"
        if kind == "message" and item["role"] != "assistant":
            messages.append({"role": item["role"], "content": _content(item["content"])})
            turn = None
        elif kind in ("function_call_output", "custom_tool_call_output"):
            messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": _content(item["output"])})
            turn = None
        else:
            if turn is None or (kind == "message" and "content" in turn):
                turn = {"role": "assistant"}
                messages.append(turn)
            _take(turn, kind, item, f"input[{position}]")
    said = [message for message in messages if len(message) > 1]  # a bare role: reasoning that carries nothing
    for message in said:
        message.setdefault("content", None if "tool_calls" in message else "")
    if not said:
        raise InvalidRequest("`input` says nothing: send a string or a list of items.", param="input")
    return said


def _take(turn: Json, kind: str, item: Json, where: str) -> None:
    """Add one item to the assistant's message."""
    if kind == "message":
        _say(turn, item["content"])
    elif kind == "reasoning":
        _think(turn, item, where)
    else:
        kind = "function" if kind == "function_call" else "custom"
        said = "arguments" if kind == "function" else "input"
        rest = {name: value for name, value in item.items() if name not in _CALL_FIELDS and value is not None}
        call = {"id": item["call_id"], "type": kind, kind: {"name": item["name"], said: item[said]}, **rest}
        turn.setdefault("tool_calls", []).append(call)


def _say(turn: Json, content: Any) -> None:
    if isinstance(content, str):
        turn["content"] = content
        return
    refusals = [part["refusal"] for part in content if part["type"] == "refusal"]
    texts = [part for part in content if part["type"] != "refusal"]
    if refusals:
        turn["refusal"] = "".join(refusals)
    turn["content"] = _content(texts) if texts or not refusals else None


def _think(turn: Json, item: Json, where: str) -> None:
    """Reasoning goes back as text, and as the provider's own blocks where it handed some out."""
    parts = item.get("summary") or item.get("content") or []
    text = "\n\n".join(part["text"] for part in parts)
    if text:
        before = turn.get("reasoning_content")
        turn["reasoning_content"] = text if before is None else f"{before}\n\n{text}"
    if item.get("encrypted_content"):
        blocks = unsealed(item["encrypted_content"], f"{where}.encrypted_content")
        turn.setdefault("thinking_blocks", []).extend(blocks)


def _content(content: Any) -> Any:
    """Text as it is, parts as chat's; one part of plain text is text, which every vendor takes."""
    if isinstance(content, str):
        return content
    parts = [_part(part) for part in content]
    if len(parts) == 1 and parts[0].keys() == {"type", "text"}:
        return parts[0]["text"]
    return parts


def _part(part: Json) -> Json:
    kind = part["type"]
    found: Json
    if kind in TEXTS:
        found = {"type": "text", "text": part["text"]}
    elif kind == "input_image":
        image = {"url": part["image_url"]}
        if part.get("detail") is not None:
            image["detail"] = part["detail"]
        found = {"type": "image_url", "image_url": image}
    elif kind == "input_file":
        file = {name: part[name] for name in ("file_data", "filename") if part.get(name) is not None}
        found = {"type": "file", "file": file}
    else:
        found = {"type": kind, "input_audio": part["input_audio"]}
    # Hints about caching stay on their part.
    return found | {name: value for name, value in part.items() if name not in _PART_FIELDS and value is not None}
