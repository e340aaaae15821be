"""What a Responses request may say, field by field. A wrong one is a 400 that names it; unknown fields are left alone.

Nothing is stored here, so whatever points at something stored is refused with what to do instead. Tools that OpenAI
itself runs are refused too: their calls are billed apart from tokens, and no hold can bound them.
"""

from collections.abc import Callable
from typing import Any

from llm.errors import InvalidRequest
from llm.wire import chat_schema
from llm.wire.chat_schema import MAX_CAP, MAX_MESSAGES, MAX_TOOLS, Check, an_object, boolean, filled, whole, wrong
from llm.wire.chat_schema import text as string

Json = dict[str, Any]

ROLES = ("user", "assistant", "system", "developer")
TEXTS = ("input_text", "output_text", "text")
INCLUDES = (
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
    "message.input_image.image_url",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
)
MIN_CAP = 16  # OpenAI's own least `max_output_tokens`
_MAX_PAIRS, _MAX_KEY, _MAX_VALUE = 16, 64, 512  # of metadata

_SEND_ALL = "nothing is stored at this gateway. Send the whole conversation in `input`"
# Fields that no chat completion can honour, and why.
UNSUPPORTED = {
    "previous_response_id": _SEND_ALL,
    "conversation": _SEND_ALL,
    "background": "an answer that is fetched later would have to be stored. Wait for it, or stream it",
    "background_options": "an answer that is fetched later would have to be stored",
    "prompt": "a stored prompt's size is not known here. Send its text as `instructions` and `input`",
    "context_management": "compaction is work of the provider's that is not metered yet. Shorten `input` yourself",
    "moderation": "moderation is work of the provider's that is not metered yet",
    "access_programs": "providers are asked by chat completions, which have no such thing",
    "image": "images are not made here",
}
# Chat's names for what Responses calls otherwise.
MOVED = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "verbosity": "text.verbosity",
    "reasoning_effort": "reasoning.effort",
    "functions": "tools",
    "function_call": "tool_choice",
    "logprobs": "top_logprobs",
}


def _unsupported(param: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"`{param}` is not supported: {why}.", param=param, code="unsupported_parameter")


def _one_of(*values: str) -> Check:
    def check_one_of(param: str, value: Any) -> None:
        if not isinstance(value, str) or value not in values:
            raise wrong(param, "one of " + ", ".join(values))

    return check_one_of


def _optional(where: str, given: Json, checks: dict[str, Check]) -> None:
    """Check those fields of an object that are there."""
    for name, check_field in checks.items():
        if given.get(name) is not None:
            check_field(f"{where}.{name}", given[name])


# --- settings ---------------------------------------------------------------------------------------------------------


def text(param: str, value: Any) -> None:
    an_object(param, value)
    _optional(param, value, {"verbosity": filled, "format": _format})


def _format(param: str, value: Any) -> None:
    an_object(param, value)
    _one_of("text", "json_object", "json_schema")(f"{param}.type", value.get("type"))
    if value["type"] == "json_schema":
        filled(f"{param}.name", value.get("name"))
        an_object(f"{param}.schema", value.get("schema"))
        _optional(param, value, {"strict": boolean, "description": string})


def reasoning(param: str, value: Any) -> None:
    an_object(param, value)
    summaries = _one_of("auto", "concise", "detailed")
    _optional(param, value, {"effort": filled, "summary": summaries, "generate_summary": summaries})
    for name, usual in (("mode", "standard"), ("context", "auto")):
        if value.get(name) not in (None, usual):
            raise _unsupported(
                f"{param}.{name}", f"chat completions have no such thing. Leave it out, or say “{usual}”"
            )


def truncation(param: str, value: Any) -> None:
    _one_of("auto", "disabled")(param, value)
    if value == "auto":
        raise _unsupported(param, "this gateway drops nothing from `input`. Shorten it, or say “disabled”")


def include(param: str, value: Any) -> None:
    if not isinstance(value, list):
        raise wrong(param, "a list of " + ", ".join(INCLUDES))
    for position, one in enumerate(value):
        _one_of(*INCLUDES)(f"{param}[{position}]", one)


def metadata(param: str, value: Any) -> None:
    an_object(param, value)
    if len(value) > _MAX_PAIRS:
        raise wrong(param, f"an object of at most {_MAX_PAIRS} pairs")
    for key, said in value.items():
        if len(key) > _MAX_KEY or not isinstance(said, str) or len(said) > _MAX_VALUE:
            raise wrong(param, f"pairs of strings, keys up to {_MAX_KEY} characters long and values up to {_MAX_VALUE}")


def stream_options(param: str, value: Any) -> None:
    an_object(param, value)
    _optional(param, value, {"include_obfuscation": boolean})


def _single(param: str, value: Any) -> None:
    if value != 1:
        raise wrong(param, "1: a response is one answer")


# --- tools ------------------------------------------------------------------------------------------------------------


def tools(param: str, value: Any) -> None:
    if not isinstance(value, list) or len(value) > MAX_TOOLS:
        raise wrong(param, f"a list of at most {MAX_TOOLS} tools")
    for position, tool in enumerate(value):
        _tool(f"{param}[{position}]", tool)


def _tool(where: str, tool: Any) -> None:
    an_object(where, tool)
    kind = tool.get("type")
    if kind not in ("function", "custom"):
        filled(f"{where}.type", kind)
        raise _unsupported(
            f"{where}.type", f"tools that the provider runs (“{kind[:40]}”) are not metered yet. Use function or custom"
        )
    filled(f"{where}.name", tool.get("name"))
    _optional(where, tool, {"description": string, "parameters": an_object, "strict": boolean, "format": an_object})
    for name in ("defer_loading", "async", "allowed_callers", "output_schema"):
        if tool.get(name):
            raise _unsupported(f"{where}.{name}", "chat completions have no such thing")


def tool_choice(param: str, value: Any) -> None:
    if isinstance(value, str):
        _one_of("none", "auto", "required")(param, value)
        return
    if not isinstance(value, dict):
        raise wrong(param, "none, auto, required or an object that names a tool")
    kind = value.get("type")
    if kind in ("function", "custom"):
        filled(f"{param}.name", value.get("name"))
    elif kind == "allowed_tools":
        _one_of("auto", "required")(f"{param}.mode", value.get("mode"))
        listed = value.get("tools")
        if not isinstance(listed, list) or not listed:
            raise wrong(f"{param}.tools", "a non-empty list of tools")
        for position, one in enumerate(listed):
            an_object(f"{param}.tools[{position}]", one)
            filled(f"{param}.tools[{position}].name", one.get("name"))
    else:
        filled(f"{param}.type", kind)
        raise _unsupported(f"{param}.type", "only function, custom and allowed_tools can be chosen here")


# --- input ------------------------------------------------------------------------------------------------------------


def items(param: str, value: Any) -> None:
    if isinstance(value, str):
        return
    if not isinstance(value, list) or not value or len(value) > MAX_MESSAGES:
        raise wrong(param, f"a string or a non-empty list of at most {MAX_MESSAGES:,} items")
    for position, item in enumerate(value):
        where = f"{param}[{position}]"
        an_object(where, item)
        kind = item.get("type")
        if kind is None:
            kind = "message" if "role" in item else "item_reference"
        filled(f"{where}.type", kind)
        check_item = _ITEMS.get(kind)
        if check_item is None:
            raise _unsupported(
                f"{where}.type", f"items of type “{kind[:40]}” have no place in a chat completion. Leave it out"
            )
        check_item(where, item)


def _message(where: str, item: Json) -> None:
    _one_of(*ROLES)(f"{where}.role", item.get("role"))
    _said(f"{where}.content", item.get("content"), refusal=item["role"] == "assistant")


def _said(where: str, content: Any, *, refusal: bool = False) -> None:
    """Text, or a list of parts."""
    if isinstance(content, str):
        return
    if not isinstance(content, list):
        raise wrong(where, "a string or a list of content parts")
    for position, part in enumerate(content):
        place = f"{where}[{position}]"
        an_object(place, part)
        kind = part.get("type")
        filled(f"{place}.type", kind)
        if kind in TEXTS:
            string(f"{place}.text", part.get("text"))
        elif kind == "refusal" and refusal:
            string(f"{place}.refusal", part.get("refusal"))
        elif kind in _PARTS and not refusal:
            _PARTS[kind](place, part)
        else:
            known = (*TEXTS[:2], "refusal") if refusal else (*TEXTS[:2], *_PARTS)
            raise wrong(f"{place}.type", "one of " + ", ".join(known))


def _image(where: str, part: Json) -> None:
    _not_by_id(where, part)
    url = part.get("image_url")
    if not isinstance(url, str) or not url.startswith(("https://", "http://", "data:")):
        raise wrong(f"{where}.image_url", "an https or data URL")
    _optional(where, part, {"detail": string})


def _file(where: str, part: Json) -> None:
    _not_by_id(where, part)
    if part.get("file_url") is not None:
        raise _unsupported(f"{where}.file_url", "nothing is fetched here. Send the file's bytes as `file_data`")
    string(f"{where}.file_data", part.get("file_data"))
    _optional(where, part, {"filename": string})


def _audio(where: str, part: Json) -> None:
    an_object(f"{where}.input_audio", part.get("input_audio"))


def _not_by_id(where: str, part: Json) -> None:
    if part.get("file_id") is not None:
        raise _unsupported(f"{where}.file_id", "no files are stored here. Send the bytes as a data URL")


def _call(where: str, item: Json) -> None:
    filled(f"{where}.call_id", item.get("call_id"))
    filled(f"{where}.name", item.get("name"))
    said = "arguments" if item["type"] == "function_call" else "input"
    string(f"{where}.{said}", item.get(said))


def _call_output(where: str, item: Json) -> None:
    filled(f"{where}.call_id", item.get("call_id"))
    _said(f"{where}.output", item.get("output"))


def _reasoning(where: str, item: Json) -> None:
    _optional(where, item, {"encrypted_content": string})
    for name in ("summary", "content"):
        listed = item.get(name)
        if listed is None:
            continue
        if not isinstance(listed, list):
            raise wrong(f"{where}.{name}", "a list of parts with text")
        for position, part in enumerate(listed):
            an_object(f"{where}.{name}[{position}]", part)
            string(f"{where}.{name}[{position}].text", part.get("text"))


def _reference(where: str, item: Json) -> None:
    raise _unsupported(where, f"it names an item that was stored, and {_SEND_ALL} (for the SDKs: `store=False`)")


_ITEMS: dict[str, Callable[[str, Json], None]] = {
    "message": _message,
    "function_call": _call,
    "function_call_output": _call_output,
    "custom_tool_call": _call,
    "custom_tool_call_output": _call_output,
    "reasoning": _reasoning,
    "item_reference": _reference,
}
_PARTS: dict[str, Callable[[str, Json], None]] = {"input_image": _image, "input_file": _file, "input_audio": _audio}

CHECKS: dict[str, Check] = {
    "input": items,
    "instructions": string,
    "tools": tools,
    "tool_choice": tool_choice,
    "max_output_tokens": whole(MIN_CAP, MAX_CAP),
    "max_tool_calls": whole(1, MAX_CAP),
    "top_logprobs": whole(0, 20),
    "text": text,
    "reasoning": reasoning,
    "metadata": metadata,
    "safety_identifier": string,
    "prompt_cache_key": string,
    "truncation": truncation,
    "include": include,
    "stream_options": stream_options,
    "n": _single,
    # What is called the same as in a chat completion.
    **{
        name: chat_schema.CHECKS[name]
        for name in (
            *("model", "temperature", "top_p", "presence_penalty", "frequency_penalty", "stream", "stop", "seed"),
            *("logit_bias", "parallel_tool_calls", "user", "store", "service_tier", "modalities"),
        )
    },
}


def check(body: Json) -> None:
    """Raises InvalidRequest for the first field that is wrong. Null is absent, but for model and input."""
    for name, why in {**chat_schema.UNBOUNDED, **UNSUPPORTED}.items():
        value = body.get(name)
        if value is not None and not (name == "background" and value is False):
            raise _unsupported(name, why)
    for name, moved in MOVED.items():
        if body.get(name) is not None:
            raise _unsupported(name, f"in a Responses request that is `{moved}`")
    if "input" not in body:
        raise InvalidRequest("`input` is missing: send a string or a list of items.", param="input")
    for name in [name for name in body if name in CHECKS]:
        if body[name] is not None or name in ("input", "model"):
            CHECKS[name](name, body[name])
