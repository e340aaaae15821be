"""A chat completion request as one OpenAI-compatible vendor takes it: what the quirks of `openai` say, done.

Fields that the client sent in the vendor's own words (`thinking`, `reasoning`, `enable_thinking`) win over ours.
"""

from collections.abc import Mapping
from typing import Any

from llm import service_tiers
from llm.calls import Call

Json = dict[str, Any]
Quirks = Mapping[str, Any]

CAPS = ("max_tokens", "max_completion_tokens")
# What an assistant's message may hold beyond OpenAI's own fields, which refuses a request that has them.
_EXTRAS = frozenset({"reasoning_content", "reasoning", "reasoning_details", "thinking_blocks", "citations"})
# Of the cap, for vendors that take a number of tokens; None leaves it to them.
_SHARES = {"minimal": 0.1, "low": 0.2, "medium": 0.5}


def unsupported(quirks: Quirks) -> frozenset[str]:
    """The quirk `unsupported_params`."""
    return frozenset(quirks.get("unsupported_params") or ())


def request_body(call: Call) -> tuple[Json, list[str]]:
    """The body for the provider and the names of what was taken out of it. `call.body` stays as it is."""
    quirks = call.target.model.quirks
    refused = unsupported(quirks)
    body = {name: value for name, value in call.body.items() if value is not None and name not in CAPS}
    dropped = sorted(refused & body.keys())
    for name in dropped:
        del body[name]
    if "service_tier" in body or call.target.card.services:
        _service_tier(body, call, dropped)
    body["model"] = call.target.model.model_id
    body["messages"] = _messages(body.get("messages"), quirks, dropped)
    body[quirks.get("token_cap_field") or "max_tokens"] = call.target.output_cap
    _temperature(body, call, refused)
    if body.get("tools"):
        _tools(body, quirks, dropped)
    if "reasoning_effort" in body:
        _reasoning(body, call, dropped)
    set_stream(body, call)
    for name, renamed in (quirks.get("renamed_params") or {}).items():
        if name in body:
            body[renamed] = body.pop(name)
    for name, value in (quirks.get("extra_params") or {}).items():
        body.setdefault(name, value)
    return body, dropped if len(dropped) < 2 else list(dict.fromkeys(dropped))


def _service_tier(body: Json, call: Call, dropped: list[str]) -> None:
    """Never one with another price than what was reserved and is billed."""
    said = body.pop("service_tier", None)
    asked = service_tiers.word(call.target, said)
    if asked:
        body["service_tier"] = asked
    elif said is not None:
        dropped.append("service_tier")


def set_stream(body: Json, call: Call) -> None:
    """Ask for a stream or for none, and always for its usage where the vendor can be asked."""
    options = body.pop("stream_options", None)
    body.pop("stream", None)
    if call.stream:
        body["stream"] = True
        if call.target.model.quirks.get("supports_stream_usage", True):
            body["stream_options"] = (options if isinstance(options, dict) else {}) | {"include_usage": True}


def _temperature(body: Json, call: Call, refused: frozenset[str]) -> None:
    if call.temperature is not None and "temperature" not in refused:
        body.setdefault("temperature", float(call.temperature))
    bounds = call.target.model.quirks.get("temperature_range")
    if bounds and "temperature" in body:
        least, most = bounds
        body["temperature"] = min(max(body["temperature"], least), most)


# Reasoning


def _reasoning(body: Json, call: Call, dropped: list[str]) -> None:
    """`reasoning_effort` in the vendor's words: the value by `reasoning_efforts`, the field by `reasoning_request`."""
    quirks = call.target.model.quirks
    effort = body["reasoning_effort"]
    said = (quirks.get("reasoning_efforts") or {}).get(effort, effort)
    style = quirks.get("reasoning_request") or "reasoning_effort"
    if not said:  # this model cannot be asked for that
        del body["reasoning_effort"]
        dropped.append("reasoning_effort")
        return
    if style == "reasoning_effort":
        body["reasoning_effort"] = said
        return
    del body["reasoning_effort"]
    if style == "reasoning":
        body.setdefault("reasoning", {"effort": said})
    elif style == "enable_thinking":
        body.setdefault("enable_thinking", said != "none")
        share = _SHARES.get(said)
        if share is not None and body["enable_thinking"]:
            body.setdefault("thinking_budget", max(1, int(call.target.output_cap * share)))
    else:  # "thinking", and "thinking_effort" where the effort goes beside it
        body.setdefault("thinking", {"type": "disabled" if said == "none" else "enabled"})
        if style == "thinking_effort" and said != "none":
            body["reasoning_effort"] = said


# Tools


def _tools(body: Json, quirks: Quirks, dropped: list[str]) -> None:
    choice = body.get("tool_choice")
    if quirks.get("forced_tool_choice") is False and choice not in (None, "auto"):
        del body["tool_choice"]
        if choice == "none":
            del body["tools"]  # the one way to have none called
            return
        dropped.append("tool_choice")
    if not quirks.get("cache_control"):
        body["tools"] = _each(body["tools"], dropped, _uncached)


# Messages


def _messages(messages: Any, quirks: Quirks, dropped: list[str]) -> Any:
    """As they are, but for what the vendor does not know. The given ones are never changed."""
    if not isinstance(messages, list):
        return messages
    taken = quirks.get("assistant_fields") or ()
    cache, developer, named = (quirks.get(name) for name in ("cache_control", "developer_role", "message_names"))
    changed: list[Any] | None = None
    for position, message in enumerate(messages):
        if type(message) is not dict:
            continue
        role = message.get("role")
        if len(message) == 2 and type(message.get("content")) is str and role != "developer":
            continue  # nothing but text: nearly every message
        mended = message
        if role == "developer" and not developer:
            mended = message | {"role": "system"}
        elif role == "assistant" and not _EXTRAS.isdisjoint(message):
            mended = _assistant(message, taken, dropped)
        if named is False and "name" in mended:
            mended = {name: value for name, value in mended.items() if name != "name"}
            dropped.append("name")
        if not cache:
            mended = _uncached(mended, dropped)
        if mended is not message:
            if changed is None:
                changed = list(messages)
            changed[position] = mended
    return messages if changed is None else changed


def _assistant(message: Json, taken: Any, dropped: list[str]) -> Json:
    """An earlier answer with those extras only that the vendor takes back. Reasoning goes under the name it knows."""
    text = _reasoning_text(message)
    mended = {name: value for name, value in message.items() if name not in _EXTRAS or name in taken}
    kept = text == ""
    for name in ("reasoning_content", "reasoning"):
        if text and name in taken:
            mended.setdefault(name, text)
            kept = True
            break
    told = ("reasoning_content", "reasoning") if kept else ()
    gone = sorted(_EXTRAS & (message.keys() - mended.keys()))
    dropped += [name for name in gone if message[name] and name not in told]
    return mended


def _reasoning_text(message: Json) -> str:
    for name in ("reasoning_content", "reasoning"):
        if isinstance(message.get(name), str):
            return str(message[name])
    blocks = message.get("thinking_blocks")
    texts = (one.get("thinking") for one in blocks if isinstance(one, dict)) if isinstance(blocks, list) else ()
    return "".join(one for one in texts if isinstance(one, str))


def cache_marks(body: Mapping[str, Any]) -> list[str]:
    """What to report as dropped where a dialect has no `cache_control`: its name if a message, part or tool has it."""
    found: list[str] = []
    for name in ("messages", "tools"):
        _each(body.get(name), found, _uncached)
    return found[:1]


def _uncached(one: Json, dropped: list[str]) -> Json:
    """A message, part or tool without `cache_control`; the same object if it has none."""
    if "cache_control" in one:
        one = {name: value for name, value in one.items() if name != "cache_control"}
        dropped.append("cache_control")
    for name in ("content", "function"):
        inner = one.get(name)
        if type(inner) is list:
            mended: Any = _each(inner, dropped, _uncached)
        elif type(inner) is dict:
            mended = _uncached(inner, dropped)
        else:
            continue
        if mended is not inner:
            one = one | {name: mended}
    return one


def _each(items: Any, dropped: list[str], mend: Any) -> Any:
    """Each of the objects mended; the same list if none had to be."""
    if type(items) is not list:
        return items
    found = [mend(one, dropped) if type(one) is dict else one for one in items]
    return items if all(one is other for one, other in zip(found, items, strict=True)) else found
