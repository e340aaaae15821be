"""What a chat request may say, field by field. A wrong one is a 400 that names it; unknown fields are left alone."""

import math
from collections.abc import Callable
from typing import Any

from billing.pricing import STANDARD
from llm import service_tiers
from llm.errors import InvalidRequest

Json = dict[str, Any]
Check = Callable[[str, Any], None]

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
MAX_MESSAGES = 10_000
MAX_CHOICES = 128
MAX_CAP = 10_000_000
MAX_TOOLS = 512

# What no hold can bound until it is metered: refused, never guessed.
UNBOUNDED = {
    "web_search_options": "searches are billed apart from tokens",
    "prediction": "rejected predictions are billed beyond max_tokens",
    "audio": "audio output is not metered yet",
    "models": "the provider would choose another model than the one that was priced",
    "fallbacks": "the provider would choose another model than the one that was priced",
    "search_parameters": "searches are billed apart from tokens",
    "enable_search": "searches are billed apart from tokens",
    "search_settings": "searches are billed apart from tokens",
    "plugins": "plugins are billed apart from tokens",
    "background": "an answer fetched later cannot be settled now",
    "prompt": "a stored prompt's size is not known here",
}


def wrong(param: str, want: str) -> InvalidRequest:
    return InvalidRequest(f"`{param}` must be {want}.", param=param)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def number(low: float, high: float) -> Check:
    def check_number(param: str, value: Any) -> None:
        if not _is_number(value) or not low <= value <= high:
            raise wrong(param, f"a number from {low:g} to {high:g}")

    return check_number


def whole(low: int, high: int) -> Check:
    def check_whole(param: str, value: Any) -> None:
        if type(value) is not int or not low <= value <= high:
            raise wrong(param, f"a whole number from {low:,} to {high:,}")

    return check_whole


def boolean(param: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise wrong(param, "true or false")


def text(param: str, value: Any) -> None:
    if not isinstance(value, str):
        raise wrong(param, "a string")


def filled(param: str, value: Any) -> None:
    if not isinstance(value, str) or not value or len(value) > 300:
        raise wrong(param, "a non-empty string of at most 300 characters")


def an_object(param: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise wrong(param, "an object")


def stop(param: str, value: Any) -> None:
    if not isinstance(value, str) and not (
        isinstance(value, list) and len(value) <= 16 and all(isinstance(one, str) for one in value)
    ):
        raise wrong(param, "a string or a list of at most 16 strings")


def stream_options(param: str, value: Any) -> None:
    an_object(param, value)
    if value.get("include_usage") is not None:
        boolean(f"{param}.include_usage", value["include_usage"])


def modalities(param: str, value: Any) -> None:
    if value != ["text"]:
        raise InvalidRequest(
            "`modalities` other than text are not metered yet.", param=param, code="unsupported_parameter"
        )


def service_tier(param: str, value: Any) -> None:
    """Which of them a model is offered at, routing knows. `batch` is none of a request that waits for its answer."""
    text(param, value)
    if value not in service_tiers.ASKED:
        raise InvalidRequest(
            f"`{param}` “{value[:40]}” cannot be asked for: send auto, default, flex or priority, or leave it out.",
            param=param,
            code="unsupported_parameter",
        )


def standard_tier(param: str, value: Any) -> None:
    """Where the API has no other."""
    service_tier(param, value)
    if service_tiers.ASKED[value] not in (service_tiers.AUTO, STANDARD):
        raise InvalidRequest(
            f"`{param}` “{value}” is of chats: here all is standard. Leave it out.",
            param=param,
            code="unsupported_parameter",
        )


def response_format(param: str, value: Any) -> None:
    an_object(param, value)
    kind = value.get("type")
    if kind not in ("text", "json_object", "json_schema"):
        raise wrong(f"{param}.type", "text, json_object or json_schema")
    if kind == "json_schema":
        an_object(f"{param}.json_schema", value.get("json_schema"))


def tools(param: str, value: Any) -> None:
    if not isinstance(value, list) or len(value) > MAX_TOOLS:
        raise wrong(param, f"a list of at most {MAX_TOOLS} tools")
    for position, tool in enumerate(value):
        where = f"{param}[{position}]"
        an_object(where, tool)
        kind = tool.get("type", "function")
        if kind not in ("function", "custom"):
            raise InvalidRequest(
                f"`{where}.type` must be function or custom: tools that the provider runs are not metered yet.",
                param=f"{where}.type",
                code="unsupported_parameter",
            )
        if kind == "function":
            an_object(f"{where}.function", tool.get("function"))
            filled(f"{where}.function.name", tool["function"].get("name"))


def functions(param: str, value: Any) -> None:
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise wrong(param, "a list of functions")


def tool_choice(param: str, value: Any) -> None:
    if not isinstance(value, (str, dict)):
        raise wrong(param, "none, auto, required or an object that names a function")


def messages(param: str, value: Any) -> None:
    if not isinstance(value, list) or not value:
        raise wrong(param, "a non-empty list of messages")
    if len(value) > MAX_MESSAGES:
        raise wrong(param, f"a list of at most {MAX_MESSAGES:,} messages")
    for position, message in enumerate(value):
        _message(f"{param}[{position}]", message)


def _message(where: str, message: Any) -> None:
    an_object(where, message)
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise wrong(f"{where}.role", "one of " + ", ".join(sorted(ROLES)))
    content = message.get("content")
    if content is None:
        if role not in ("assistant", "function"):
            raise wrong(f"{where}.content", "a string or a list of content parts")
    elif isinstance(content, list):
        for position, part in enumerate(content):
            _part(f"{where}.content[{position}]", part)
    elif not isinstance(content, str):
        raise wrong(f"{where}.content", "a string or a list of content parts")
    for name in ("name", "tool_call_id", "refusal"):
        if message.get(name) is not None:
            text(f"{where}.{name}", message[name])
    if role == "tool" and not isinstance(message.get("tool_call_id"), str):
        raise wrong(f"{where}.tool_call_id", "the id of the tool call it answers")
    calls = message.get("tool_calls")
    if calls is not None:
        _tool_calls(f"{where}.tool_calls", calls)


def _part(where: str, part: Any) -> None:
    an_object(where, part)
    filled(f"{where}.type", part.get("type"))
    if part["type"] == "text":
        text(f"{where}.text", part.get("text"))
    elif part["type"] == "image_url":
        image = part.get("image_url")
        an_object(f"{where}.image_url", image)
        url = image.get("url")
        if not isinstance(url, str) or not url.startswith(("https://", "http://", "data:")):
            raise wrong(f"{where}.image_url.url", "an https or data URL")


def _tool_calls(where: str, calls: Any) -> None:
    if not isinstance(calls, list):
        raise wrong(where, "a list of tool calls")
    for position, call in enumerate(calls):
        place = f"{where}[{position}]"
        an_object(place, call)
        if call.get("type", "function") == "function":
            function = call.get("function")
            an_object(f"{place}.function", function)
            filled(f"{place}.function.name", function.get("name"))
            text(f"{place}.function.arguments", function.get("arguments"))


CHECKS: dict[str, Check] = {
    "messages": messages,
    "model": filled,
    "temperature": number(0, 2),
    "top_p": number(0, 1),
    "presence_penalty": number(-2, 2),
    "frequency_penalty": number(-2, 2),
    "max_tokens": whole(1, MAX_CAP),
    "max_completion_tokens": whole(1, MAX_CAP),
    "n": whole(1, MAX_CHOICES),
    "stream": boolean,
    "stream_options": stream_options,
    "stop": stop,
    "seed": whole(-(2**63), 2**63 - 1),
    "logprobs": boolean,
    "top_logprobs": whole(0, 20),
    "logit_bias": an_object,
    "parallel_tool_calls": boolean,
    "tools": tools,
    "functions": functions,
    "tool_choice": tool_choice,
    "response_format": response_format,
    "reasoning_effort": filled,
    "user": text,
    "metadata": an_object,
    "store": boolean,
    "service_tier": service_tier,
    "modalities": modalities,
}


def check(body: Json) -> None:
    """Raises InvalidRequest for the first field that is wrong. Null is absent, but for model and messages."""
    if "messages" not in body:
        raise InvalidRequest("`messages` is missing: send a non-empty list of messages.", param="messages")
    if "model" in body:
        filled("model", body["model"])
    for name in [name for name in body if name in CHECKS]:
        value = body[name]
        if value is not None or name == "messages":
            CHECKS[name](name, value)
    for name, why in UNBOUNDED.items():
        if body.get(name) is not None:
            raise InvalidRequest(
                f"`{name}` is not supported: {why}. Leave it out.", param=name, code="unsupported_parameter"
            )
