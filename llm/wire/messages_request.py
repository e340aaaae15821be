"""A Messages API body as the chat body that all other dialects are made from.

What goes over: system, text, images, tool calls and results, thinking with its signatures (`thinking_blocks`, and its
text as `reasoning_content`), cache marks, tools and the choice among them, stops, sampling, schema and effort. Images
of a tool result follow it in a user message, since OpenAI's tool messages hold text only. What OpenAI has no name for
is in `beyond`. What only Anthropic can express is named in `only`, the first of it.
"""

from typing import Any

import orjson

Json = dict[str, Any]

# Tokens of a thinking budget from which it is this much effort; below: low.
_HIGH, _MEDIUM = 16_384, 4_096
_TRANSLATED = frozenset(
    {"messages", "model", "max_tokens", "system", "temperature", "top_p", "top_k", "stop_sequences", "stream", "tools",
     "tool_choice", "thinking", "output_config", "output_format", "metadata", "service_tier", "speed", "inference_geo"}
)  # fmt: skip
_KNOWN_IN_BLOCKS = frozenset({"type", "text", "source", "cache_control"})
_KNOWN_IN_TOOLS = frozenset({"type", "name", "description", "input_schema", "cache_control", "strict"})


class Translation:
    """One body. `unseen` are UTF-8 bytes that Anthropic is sent and the chat body has no place for: part of the bound
    of the input. `typed` is True where a tool is defined by Anthropic: how long that is, is not known here."""

    def __init__(self, given: Json) -> None:
        self.given = {name: value for name, value in given.items() if value is not None}
        self.body: Json = {}
        self.beyond: Json = {}
        self.only: str | None = None
        self.unseen = 0
        self.typed = False
        self._messages: list[Json] = []

    def made(self) -> "Translation":
        given, body = self.given, self.body
        for name in ("model", "max_tokens", "stream", "temperature", "top_p"):
            if name in given:
                body[name] = given[name]
        if given.get("system"):
            self._messages.append({"role": "system", "content": self._parts(given["system"], "system")})
        for position, message in enumerate(given["messages"]):
            self._message(message, f"messages[{position}]")
        body["messages"] = self._messages
        self._tools()
        self._thinking()
        if given.get("stop_sequences"):
            body["stop"] = given["stop_sequences"]
        user = (given.get("metadata") or {}).get("user_id")
        if user is not None:
            body["user"] = user
        if "service_tier" in given:
            body["service_tier"] = "auto" if given["service_tier"] == "auto" else "default"
        if "top_k" in given:
            self.beyond["top_k"] = given["top_k"]
        self.beyond |= {name: value for name, value in given.items() if name not in _TRANSLATED}
        self.beyond = dict(sorted(self.beyond.items()))
        self.unseen += _size(self.beyond)
        return self

    # Messages

    def _message(self, message: Json, where: str) -> None:
        content, role = message["content"], message["role"]
        if isinstance(content, str):
            self._messages.append({"role": role, "content": content})
        elif role == "assistant":
            self._assistant(content, where)
        elif role == "system":
            self._messages.append({"role": "system", "content": self._parts(content, f"{where}.content")})
        else:
            self._user(content, where)

    def _user(self, blocks: list[Json], where: str) -> None:
        """Tool results first, as both sides want them; their images and all else after."""
        parts: list[Json] = []
        for position, block in enumerate(blocks):
            place = f"{where}.content[{position}]"
            if block["type"] == "tool_result":
                parts += self._tool_result(block, place)
        for position, block in enumerate(blocks):
            if block["type"] != "tool_result":
                parts.append(self._part(block, f"{where}.content[{position}]"))
        if parts:
            self._messages.append({"role": "user", "content": parts})

    def _tool_result(self, block: Json, where: str) -> list[Json]:
        """Adds the tool's message; what it cannot hold is returned, for a user's."""
        content, aside = block.get("content"), list[Json]()
        if isinstance(content, list):
            parts = [self._part(one, f"{where}.content[{position}]") for position, one in enumerate(content)]
            aside = [part for part in parts if part["type"] != "text"]
            content = [part for part in parts if part["type"] == "text"]
            if aside:
                note = f"What the tool call {block['tool_use_id']} returned besides text:"
                aside.insert(0, {"type": "text", "text": note})
                content = content or "The result is in the next message."
        message: Json = {"role": "tool", "tool_call_id": block["tool_use_id"], "content": content or ""}
        if block.get("is_error") is True:
            message["is_error"] = True
        if isinstance(block.get("cache_control"), dict):
            message["cache_control"] = block["cache_control"]
        self._messages.append(message)
        return aside

    def _assistant(self, blocks: list[Json], where: str) -> None:
        parts: list[Json] = []
        thoughts: list[Json] = []
        calls: list[Json] = []
        for position, block in enumerate(blocks):
            if block["type"] in ("thinking", "redacted_thinking"):
                thoughts.append(block)
            elif block["type"] == "tool_use":
                calls.append(_tool_call(block))
            else:
                parts.append(self._part(block, f"{where}.content[{position}]"))
        message: Json = {"role": "assistant", "content": parts or None}
        if thoughts:
            said = "".join(block.get("thinking") or "" for block in thoughts)
            if said:
                message["reasoning_content"] = said
            message["thinking_blocks"] = thoughts
        if calls:
            message["tool_calls"] = calls
        self._messages.append(message)

    def _parts(self, content: str | list[Json], where: str) -> str | list[Json]:
        if isinstance(content, str):
            return content
        return [self._part(block, f"{where}[{position}]") for position, block in enumerate(content)]

    def _part(self, block: Json, where: str) -> Json:
        kind = block["type"]
        part: Json
        if kind == "text":
            part = {"type": "text", "text": block["text"]}
        elif kind == "image" and block["source"]["type"] == "base64":
            source = block["source"]
            part = {"type": "image_url", "image_url": {"url": f"data:{source['media_type']};base64,{source['data']}"}}
        elif kind == "image" and block["source"]["type"] == "url":
            part = {"type": "image_url", "image_url": {"url": block["source"]["url"]}}
        else:
            self.only = self.only or where
            return block
        if isinstance(block.get("cache_control"), dict):
            part["cache_control"] = block["cache_control"]
        if block.keys() - _KNOWN_IN_BLOCKS:
            self.unseen += _size({name: block[name] for name in block.keys() - _KNOWN_IN_BLOCKS})
        return part

    # Tools

    def _tools(self) -> None:
        given = self.given.get("tools")
        if not given:
            return
        tools = []
        for position, tool in enumerate(given):
            if tool.get("type") in (None, "custom"):
                tools.append(_function(tool))
                self.unseen += _size({name: tool[name] for name in tool.keys() - _KNOWN_IN_TOOLS})
            else:
                self.only, self.typed = self.only or f"tools[{position}]", True
                self.unseen += _size(tool)
        if tools:
            self.body["tools"] = tools
        choice = self.given.get("tool_choice")
        if choice is None or not tools:
            return
        if choice["type"] == "tool":
            self.body["tool_choice"] = {"type": "function", "function": {"name": choice["name"]}}
        else:
            self.body["tool_choice"] = {"auto": "auto", "any": "required", "none": "none"}[choice["type"]]
        if choice.get("disable_parallel_tool_use") and choice["type"] != "none":
            self.body["parallel_tool_calls"] = False

    # Thinking and schemas

    def _thinking(self) -> None:
        """An effort said in words beats one that a budget stands for. Without one, dialects that know `thinking` get it
        as it is. No thinking at all is what OpenAI's models have many names for and most refuse: left to the model."""
        config, thinking = self.given.get("output_config") or {}, self.given.get("thinking") or {}
        wanted = config.get("format") or self.given.get("output_format")
        if wanted is not None:
            self.body["response_format"] = _response_format(wanted["schema"])
        others = {name: value for name, value in config.items() if name not in ("format", "effort")}
        if others:
            self.beyond["output_config"] = others
        kind, effort = thinking.get("type"), config.get("effort")
        if kind is not None and (effort is None or kind not in ("enabled", "adaptive")):
            self.beyond["thinking"] = thinking
        if kind == "disabled":
            if effort is not None:
                self.beyond["output_config"] = {**others, "effort": effort}
        elif effort is not None:
            self.body["reasoning_effort"] = "xhigh" if effort == "max" else effort
        elif kind == "enabled":
            budget = thinking["budget_tokens"]
            self.body["reasoning_effort"] = "high" if budget >= _HIGH else "medium" if budget >= _MEDIUM else "low"
        elif kind == "adaptive":
            self.body["reasoning_effort"] = "medium"


def _size(value: Json) -> int:
    return len(orjson.dumps(value)) if value else 0


def _tool_call(block: Json) -> Json:
    function = {"name": block["name"], "arguments": orjson.dumps(block["input"]).decode()}
    call: Json = {"id": block["id"], "type": "function", "function": function}
    if isinstance(block.get("extra_content"), dict):  # another vendor's signature of its call, from an earlier answer
        call["extra_content"] = block["extra_content"]
    return call


def _function(tool: Json) -> Json:
    function: Json = {"name": tool["name"], "parameters": tool["input_schema"]}
    if tool.get("description") is not None:
        function["description"] = tool["description"]
    if tool.get("strict") is True and _closed(tool["input_schema"]):
        function["strict"] = True
    found: Json = {"type": "function", "function": function}
    if isinstance(tool.get("cache_control"), dict):
        found["cache_control"] = tool["cache_control"]
    return found


def _response_format(schema: Json) -> Json:
    wanted: Json = {"name": "answer", "schema": schema}
    if _closed(schema):
        wanted["strict"] = True
    return {"type": "json_schema", "json_schema": wanted}


def _closed(schema: Any) -> bool:
    """True if every object in it is closed and wants all its properties: what OpenAI calls strict, and refuses else.
    Source: developers.openai.com, "Structured outputs", supported schemas."""
    if isinstance(schema, list):
        return all(map(_closed, schema))
    if not isinstance(schema, dict):
        return True
    properties = schema.get("properties")
    if isinstance(properties, dict) or schema.get("type") == "object":
        required = schema.get("required")
        names = set(properties) if isinstance(properties, dict) else set()
        listed = {one for one in required if isinstance(one, str)} if isinstance(required, list) else set()
        if schema.get("additionalProperties") is not False or names != listed:
            return False
    return all(map(_closed, schema.values()))
