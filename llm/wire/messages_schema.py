"""What a Messages API request may say, field by field. A wrong one is a 400 that names it; unknown fields are left
alone, for Anthropic may know them, but for those that OpenAI's API has another meaning for.

Sources: the parameter types of anthropic-sdk-python; prices of US-only inference and fast mode at platform.claude.com.
"""

from collections.abc import Callable
from typing import Any

from llm.errors import InvalidRequest
from llm.wire import chat_schema
from llm.wire.chat_schema import (
    MAX_CAP,
    MAX_MESSAGES,
    MAX_TOOLS,
    an_object,
    boolean,
    filled,
    number,
    text,
    whole,
    wrong,
)

Json = dict[str, Any]
Check = Callable[[str, Any], None]

MEDIA = ("image/jpeg", "image/png", "image/gif", "image/webp")
LEAST_BUDGET = 1024  # tokens
EFFORTS = ("low", "medium", "high", "xhigh", "max")
# Tools that Anthropic defines and the client runs. All others it runs itself, at prices of their own.
CLIENT_TOOLS = ("bash_", "text_editor_", "memory_", "computer_", "browser_toolset_")

# What no hold can bound, or no price card knows, until it is metered: refused, never guessed.
UNBOUNDED = chat_schema.UNBOUNDED | {
    "mcp_servers": "what tools of a remote server answer is not metered yet",
    "container": "containers are billed apart from tokens",
}
# Names of the same wish in OpenAI's API, which this one does not know.
INSTEAD = {
    "stop": "stop_sequences",
    "n": None,
    "functions": "tools",
    "function_call": "tool_choice",
    "response_format": "output_config.format",
    "reasoning_effort": "output_config.effort",
    "max_completion_tokens": "max_tokens",
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
    "user": "metadata.user_id",
}


def _unmetered(param: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"`{param}` is not supported: {why}.", param=param, code="unsupported_parameter")


# --- content ----------------------------------------------------------------------------------------------------------


def messages(param: str, value: Any) -> None:
    if not isinstance(value, list) or not value:
        raise wrong(param, "a non-empty list of messages")
    if len(value) > MAX_MESSAGES:
        raise wrong(param, f"a list of at most {MAX_MESSAGES:,} messages")
    for position, message in enumerate(value):
        where = f"{param}[{position}]"
        an_object(where, message)
        if message.get("role") not in ("user", "assistant", "system"):
            raise wrong(f"{where}.role", "user, assistant or system")
        _content(f"{where}.content", message.get("content"))


def _content(where: str, value: Any) -> None:
    if isinstance(value, str):
        return
    if not isinstance(value, list):
        raise wrong(where, "a string or a list of content blocks")
    for position, block in enumerate(value):
        place = f"{where}[{position}]"
        an_object(place, block)
        filled(f"{place}.type", block.get("type"))
        check = _BLOCKS.get(block["type"])
        if check is not None:
            check(place, block)


def _text_block(where: str, block: Json) -> None:
    text(f"{where}.text", block.get("text"))


def _image(where: str, block: Json) -> None:
    source: Any = block.get("source")
    an_object(f"{where}.source", source)
    filled(f"{where}.source.type", source.get("type"))
    if source["type"] == "base64":
        if source.get("media_type") not in MEDIA:
            raise wrong(f"{where}.source.media_type", "one of " + ", ".join(MEDIA))
        text(f"{where}.source.data", source.get("data"))
    elif source["type"] == "url":
        url = source.get("url")
        if not isinstance(url, str) or not url.startswith(("https://", "http://")):
            raise wrong(f"{where}.source.url", "an https URL")


def _thinking_block(where: str, block: Json) -> None:
    text(f"{where}.thinking", block.get("thinking"))
    if block.get("signature") is not None:
        text(f"{where}.signature", block["signature"])


def _redacted(where: str, block: Json) -> None:
    text(f"{where}.data", block.get("data"))


def _tool_use(where: str, block: Json) -> None:
    filled(f"{where}.id", block.get("id"))
    filled(f"{where}.name", block.get("name"))
    an_object(f"{where}.input", block.get("input"))


def _tool_result(where: str, block: Json) -> None:
    filled(f"{where}.tool_use_id", block.get("tool_use_id"))
    if block.get("content") is not None:
        _content(f"{where}.content", block["content"])
    if block.get("is_error") is not None:
        boolean(f"{where}.is_error", block["is_error"])


_BLOCKS: dict[str, Callable[[str, Json], None]] = {
    "text": _text_block,
    "image": _image,
    "thinking": _thinking_block,
    "redacted_thinking": _redacted,
    "tool_use": _tool_use,
    "tool_result": _tool_result,
}


def system(param: str, value: Any) -> None:
    _content(param, value)
    if not isinstance(value, str) and any(block["type"] != "text" for block in value):
        raise wrong(param, "a string or a list of text blocks")


# --- settings ---------------------------------------------------------------------------------------------------------


def tools(param: str, value: Any) -> None:
    if not isinstance(value, list) or len(value) > MAX_TOOLS:
        raise wrong(param, f"a list of at most {MAX_TOOLS} tools")
    for position, tool in enumerate(value):
        where = f"{param}[{position}]"
        an_object(where, tool)
        kind = tool.get("type")
        if kind is not None:
            filled(f"{where}.type", kind)
        if kind in (None, "custom"):
            filled(f"{where}.name", tool.get("name"))
            an_object(f"{where}.input_schema", tool.get("input_schema"))
            if tool.get("description") is not None:
                text(f"{where}.description", tool["description"])
        elif not kind.startswith(CLIENT_TOOLS):
            raise _unmetered(f"{where}.type", "tools that the provider runs are not metered yet")


def tool_choice(param: str, value: Any) -> None:
    an_object(param, value)
    if value.get("type") not in ("auto", "any", "tool", "none"):
        raise wrong(f"{param}.type", "auto, any, tool or none")
    if value["type"] == "tool":
        filled(f"{param}.name", value.get("name"))
    if value.get("disable_parallel_tool_use") is not None:
        boolean(f"{param}.disable_parallel_tool_use", value["disable_parallel_tool_use"])


def stop_sequences(param: str, value: Any) -> None:
    if not isinstance(value, list) or len(value) > 16 or not all(isinstance(one, str) for one in value):
        raise wrong(param, "a list of at most 16 strings")


def thinking(param: str, value: Any) -> None:
    an_object(param, value)
    filled(f"{param}.type", value.get("type"))
    if value["type"] == "enabled":
        whole(LEAST_BUDGET, MAX_CAP)(f"{param}.budget_tokens", value.get("budget_tokens"))


def output_config(param: str, value: Any) -> None:
    an_object(param, value)
    effort, wanted = value.get("effort"), value.get("format")
    if effort is not None and effort not in EFFORTS:
        raise wrong(f"{param}.effort", "one of " + ", ".join(EFFORTS))
    if wanted is not None:
        output_format(f"{param}.format", wanted)


def output_format(param: str, value: Any) -> None:
    an_object(param, value)
    if value.get("type") != "json_schema":
        raise wrong(f"{param}.type", "json_schema")
    an_object(f"{param}.schema", value.get("schema"))


def metadata(param: str, value: Any) -> None:
    an_object(param, value)
    if value.get("user_id") is not None:
        text(f"{param}.user_id", value["user_id"])


def service_tier(param: str, value: Any) -> None:
    if value not in ("auto", "standard_only"):
        raise wrong(param, "auto or standard_only")


def speed(param: str, value: Any) -> None:
    if value != "standard":
        raise _unmetered(param, "fast mode has prices of its own that are not metered yet")


def inference_geo(param: str, value: Any) -> None:
    if value != "global":
        raise _unmetered(param, "inference in one region has prices of its own that are not metered yet")


def context_management(param: str, value: Any) -> None:
    an_object(param, value)
    edits = value.get("edits")
    for position, edit in enumerate(edits if isinstance(edits, list) else []):
        kind = edit.get("type") if isinstance(edit, dict) else None
        if not isinstance(kind, str) or not kind.startswith("clear_"):
            raise _unmetered(f"{param}.edits[{position}]", "a compaction is an answer of its own, not metered yet")


CHECKS: dict[str, Check] = {
    "messages": messages,
    "model": filled,
    "max_tokens": whole(1, MAX_CAP),
    "system": system,
    "temperature": number(0, 1),
    "top_p": number(0, 1),
    "top_k": whole(0, MAX_CAP),
    "stop_sequences": stop_sequences,
    "stream": boolean,
    "tools": tools,
    "tool_choice": tool_choice,
    "thinking": thinking,
    "output_config": output_config,
    "output_format": output_format,  # its name in the beta, which older SDKs send
    "metadata": metadata,
    "service_tier": service_tier,
    "speed": speed,
    "inference_geo": inference_geo,
    "context_management": context_management,
    "cache_control": an_object,
}


def check(body: Json, *, counting: bool = False) -> None:
    """Raises InvalidRequest for the first field that is wrong. Null is absent, but for model and messages. `counting`:
    tokens are to be counted, so that `max_tokens` may be missing."""
    if "messages" not in body:
        raise InvalidRequest("`messages` is missing: send a non-empty list of messages.", param="messages")
    if body.get("max_tokens") is None and not counting:
        raise InvalidRequest("`max_tokens` is missing: say how long the answer may be.", param="max_tokens")
    if "model" in body:
        filled("model", body["model"])
    for name, value in body.items():
        if name in CHECKS:
            if value is not None or name == "messages":
                CHECKS[name](name, value)
        elif value is not None:
            _foreign(name)


def _foreign(name: str) -> None:
    if name in UNBOUNDED:
        raise _unmetered(name, f"{UNBOUNDED[name]}. Leave it out")
    if name in INSTEAD or name in chat_schema.CHECKS:
        instead = INSTEAD.get(name)
        raise InvalidRequest(
            f"`{name[:80]}` is no field of the Messages API. " + (f"Use `{instead}`." if instead else "Leave it out."),
            param=name,
            code="unsupported_parameter",
        )
