"""A provider's own list of its models, read with the platform's key and not trusted: bounded, checked, put into words.

Read are OpenAI's shape (`{"data": [{"id": ...}]}`, or the bare list some vendors send), Anthropic's, which is alike,
and Google's (`{"models": [{"name": "models/...", ...}]}`; Vertex AI has `publisherModels`), page by page.
What a vendor adds about a model is used under the names most of them use. A proxy that keeps such facts elsewhere says
so by its quirk `model_info`, a path below the base URL that answers as LiteLLM's `/model/info` does.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import orjson

from llm.catalog import probes
from llm.choices import Dialect, Kind
from llm.models import LLMProvider
from tenants.errors import Conflict

MAX_BYTES = 16 * 1024 * 1024  # LiteLLM says 6 KB about each model
MAX_MODELS = 5_000
LONGEST_ID = 200  # characters: what LLMModel.model_id holds
_MAX_TOKENS = 2**31 - 1
_MAX_PAGES = 60
_UNREAD = "Lists of the dialects openai, anthropic and google are read. Add its models by hand."
# Anthropic gives twenty and Google fifty unless asked for more, and neither more than a thousand.
_LISTS = {Dialect.ANTHROPIC.value: "/models?limit=1000", Dialect.GOOGLE.value: "?pageSize=1000"}
_SHOWN = 80

# Our field -> the names it goes by, the first that holds a whole number is taken. LiteLLM's `max_tokens` is an output.
_NUMBERS: Mapping[str, Sequence[str]] = {
    "context_window": (
        *("context_length", "context_window", "max_context_length", "max_model_len", "max_input_tokens"),
        "inputTokenLimit",
    ),
    "max_output_tokens": ("max_output_tokens", "max_completion_tokens", "max_tokens", "outputTokenLimit"),
}
_FLAGS: Mapping[str, str] = {
    "supports_function_calling": "supports_function_calling",
    "supports_vision": "supports_vision",
    "supports_json_mode": "supports_response_schema",
    "is_reasoning": "supports_reasoning",
}
_KINDS = {
    "chat": Kind.CHAT, "completion": Kind.CHAT, "responses": Kind.CHAT, "language": Kind.CHAT, "code": Kind.CHAT,
    "embedding": Kind.EMBEDDING, "embeddings": Kind.EMBEDDING,
}  # fmt: skip
# What a model of Google's can be asked for, the first that it has -> its kind, in the words above and below.
_METHODS = {
    "generateContent": "chat", "embedContent": "embedding", "batchEmbedContents": "embedding",
    "bidiGenerateContent": "realtime", "predictLongRunning": "video",
}  # fmt: skip
_NOT_SERVED = frozenset(
    {
        "image", "image_generation", "image_edit", "audio", "audio_speech", "audio_transcription", "transcribe",
        "moderation", "moderations", "ocr", "realtime", "rerank", "search", "vector_store", "video",
        "video_generation",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One entry. `facts` are values of LLMModel's fields as the provider states them; `behind` is what a proxy calls
    for it, such as ``openai/gpt-4o``; `unusable` says why it cannot be a model here, and `model_id` is then only shown.
    """

    model_id: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    behind: tuple[str, ...] = ()
    unusable: str = ""


def read(provider: LLMProvider) -> list[Listed]:
    """The provider's list, in its order, each id once. Raises Conflict("model_list_unavailable") in words."""
    if provider.dialect not in (*_LISTS, Dialect.OPENAI):
        raise _unavailable(provider, _UNREAD)
    entries = _entries(provider, _LISTS.get(provider.dialect, ""))
    more = _infos(provider)
    found: dict[tuple[str, str], Listed] = {}
    for number, entry in enumerate(entries, start=1):
        one = _listed(entry, number, more)
        found.setdefault((one.model_id, one.unusable), one)
    return list(found.values())


def _entries(provider: LLMProvider, path: str) -> list[Any]:
    """All pages. Only Google's lists have several: the others give all they have to who asks for enough."""
    found: list[Any] = []
    page = path
    for _ in range(_MAX_PAGES):
        entries, following = _page(provider, page)
        found += entries
        if len(found) > MAX_MODELS:
            said = f"It lists {len(found):,} models, and {MAX_MODELS:,} are accepted. Add those you want by hand."
            raise _unavailable(provider, said)
        if not following:
            break
        page = f"{path}&pageToken={quote(following, safe='')}"
    return found


def _page(provider: LLMProvider, path: str) -> tuple[list[Any], str]:
    """One page, and the token of the one behind it."""
    answer, key_name = probes.ask_with_platform_key(provider, path=path, most=MAX_BYTES)
    if answer.refused and not key_name:
        raise _unavailable(provider, "There is no platform key to ask with. Add one, or set its environment variable.")
    problem = probes.objection(answer, key_name=key_name)
    if problem:
        raise _unavailable(provider, problem)
    try:
        if provider.dialect == Dialect.GOOGLE:
            return _googles(answer.body)
        return _data(answer.body), ""
    except ValueError as error:
        raise _unavailable(provider, "Its answer is no list of models. Is the base URL right?") from error


def _data(body: bytes) -> list[Any]:
    """The entries of a list's JSON. Raises ValueError for what is none."""
    found = orjson.loads(body)
    entries = found.get("data") if isinstance(found, dict) else found
    if not isinstance(entries, list):
        raise ValueError("no list")
    return entries


def _googles(body: bytes) -> tuple[list[Any], str]:
    """Google's entries under the names that others use, and the next page's token. Raises ValueError for no list."""
    found = orjson.loads(body)
    entries = found.get("models", found.get("publisherModels", [])) if isinstance(found, dict) else None
    if not isinstance(entries, list):
        raise ValueError("no list")
    following = found.get("nextPageToken")
    return [_google(one) for one in entries], following if isinstance(following, str) else ""


def _google(entry: Any) -> Any:
    if not isinstance(entry, dict) or not isinstance(name := entry.get("name"), str):
        return entry
    methods = entry.get("supportedGenerationMethods")
    known = methods if isinstance(methods, list) else []
    mode = next((mode for method, mode in _METHODS.items() if method in known), "image_generation" if known else None)
    short = name.removeprefix("publishers/google/").removeprefix("models/")
    return entry | {"id": short, "display_name": entry.get("displayName"), "mode": mode}


def _unavailable(provider: LLMProvider, why: str) -> Conflict:
    said = f"The list of models of {provider.display_name} could not be read. {why}"
    return Conflict(said, code="model_list_unavailable")


def _infos(provider: LLMProvider) -> dict[str, list[Mapping[str, Any]]]:
    """What the proxy says elsewhere, by the name in its list: an entry for each deployment behind it. Nothing where it
    has no such place or does not let this key read it: the list alone will do.
    """
    path = provider.quirks.get("model_info")
    if not isinstance(path, str) or not path.startswith("/"):
        return {}
    answer, key_name = probes.ask_with_platform_key(provider, path=path, most=MAX_BYTES)
    try:
        entries = [] if probes.objection(answer, key_name=key_name) else _data(answer.body)
    except ValueError:
        return {}
    found: dict[str, list[Mapping[str, Any]]] = {}
    for entry in entries:
        if isinstance(entry, dict) and isinstance(name := entry.get("model_name"), str):
            found.setdefault(name, []).append(entry)
    return found


def _listed(entry: Any, number: int, infos: Mapping[str, list[Mapping[str, Any]]]) -> Listed:
    name = entry.get("id") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not name:
        return Listed(model_id=f"(entry {number})", unusable="It has no id.")
    problem = _wrong_name(name)
    if problem:
        return Listed(model_id=ascii(name)[1:-1][:_SHOWN], unusable=problem)
    deployments = [info["model_info"] for info in infos.get(name, ()) if isinstance(info.get("model_info"), dict)]
    told = [entry, *deployments]
    kinds = {word for one in told for key in ("mode", "type") if isinstance(word := one.get(key), str)}
    foreign = sorted(kinds & _NOT_SERVED)
    if foreign:
        return Listed(model_id=name, unusable=f"It is for {foreign[0]}; served are chat and embeddings.")
    facts: dict[str, Any] = dict(_numbers(told))
    facts |= {
        ours: True for ours, theirs in _FLAGS.items() if all(one.get(theirs) is True for one in deployments or told)
    }
    served = sorted(kinds & _KINDS.keys())
    if served:
        facts["kind"] = _KINDS[served[0]].value
    shown = entry.get("display_name")
    if isinstance(shown, str) and shown and not _wrong_name(shown):
        facts["display_name"] = shown
    return Listed(model_id=name, facts=facts, behind=_behind(infos.get(name, ())))


def _wrong_name(name: str) -> str:
    """Why an id could not be stored, shown or asked for; empty for a good one."""
    if len(name) > LONGEST_ID:
        return f"Its id is longer than {LONGEST_ID} characters."
    if not name.isprintable() or name != name.strip():
        return "Its id has control or invisible characters, or blanks around it."
    if "*" in name:
        return "It is a pattern, not a model. Add the models behind it by hand."
    return ""


def _numbers(told: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, int]]:
    """Of several statements the smallest: too small a window refuses a request, too large a one fails it."""
    for ours, names in _NUMBERS.items():
        said = [value for one in told if (value := _first_whole(one, names)) is not None]
        if said:
            yield ours, min(said)


def _first_whole(one: Mapping[str, Any], names: Sequence[str]) -> int | None:
    for name in names:
        value = one.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MAX_TOKENS:
            return value
    return None


def _behind(infos: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """What the proxy calls, each once; "" for a deployment that does not say."""
    params = [info.get("litellm_params") for info in infos]
    names = [one.get("model") if isinstance(one, dict) else None for one in params]
    return tuple(dict.fromkeys(name if isinstance(name, str) else "" for name in names))
