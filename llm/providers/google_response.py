"""What Gemini answers, whole or as an event of a stream: both are the same GenerateContentResponse.

    text                   content
    text with `thought`    reasoning_content
    functionCall           tool_calls; its `thoughtSignature` in `extra_content.google.thought_signature`, where
                           Google's own OpenAI endpoint has it
    a signature elsewhere  `extra_content` of the message
    promptFeedback         a refusal, finished with `content_filter`
    usageMetadata          OpenAI's shape; thoughts count beside the candidates, results of tools beside the prompt

Words of its own that a finish may have, and what became of an answer that ended so: `finish_of`.
"""

from dataclasses import dataclass, field
from typing import Any

import orjson

from llm.calls import Call, Completed
from llm.errors import UpstreamInvalid
from llm.providers import failures
from llm.providers.chunks import created_at, output_bytes

Json = dict[str, Any]

_FINISHES = {
    "STOP": "stop",
    "FINISH_REASON_UNSPECIFIED": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",  # the most of one request is reached; more would be another request, billed again
}
_FILTERED = frozenset(
    {"SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR", "ESCALATION",
     "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "PUP_LIMITED_DISABLED"}
)  # fmt: skip
# The model wrote what is no answer: not the client's fault, and perhaps another attempt's luck.
_BROKEN = frozenset(
    {"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MISSING_THOUGHT_SIGNATURE",
     "MALFORMED_RESPONSE"}
)  # fmt: skip
_CANDIDATES = "candidatesTokenCount"
_COUNTS = (
    *("promptTokenCount", "toolUsePromptTokenCount", "cachedContentTokenCount"),
    *(_CANDIDATES, "thoughtsTokenCount", "totalTokenCount"),
)


# How much of each count is what: [{"modality": "AUDIO", "tokenCount": 12}, ...]
_DETAILS = ("promptTokensDetails", "cacheTokensDetails", "candidatesTokensDetails", "toolUsePromptTokensDetails")
_MODALITIES = {"AUDIO": "audio_tokens", "IMAGE": "image_tokens", "VIDEO": "video_tokens"}


@dataclass(slots=True)
class Said:
    """What one candidate says, in this event or as a whole. `calls` are whole tool calls without an index."""

    text: str = ""
    thought: str = ""
    calls: list[Json] = field(default_factory=list)
    signature: str = ""  # of a part that calls nothing
    finish: str | None = None  # in Google's words
    logprobs: Json | None = None


def answer_of(payload: bytes, *, byok: bool) -> Json:
    """The response object. Raises the error it is under 200, as an object or in a list; UpstreamInvalid for neither."""
    try:
        found = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise UpstreamInvalid("The provider sent something that is not JSON.") from error
    if type(found) is list and found and type(found[0]) is dict:
        found = found[0]
    if type(found) is not dict:
        raise UpstreamInvalid("The provider sent something that is not an object.")
    if found.get("error"):
        raise failures.in_band(found["error"], byok=byok)
    return found


def candidates_of(answer: Json) -> list[Json]:
    found = answer.get("candidates")
    if found is None:
        return []
    if type(found) is not list or not all(type(one) is dict for one in found):
        raise UpstreamInvalid("The provider sent candidates that are no list of objects.")
    return found


def said_by(candidate: Json, call_id: str) -> Said:
    """What a candidate says. `call_id` begins the ids of tool calls that came without one."""
    said = Said(finish=candidate.get("finishReason"), logprobs=_logprobs(candidate.get("logprobsResult")))
    content = candidate.get("content")
    parts = content.get("parts") if type(content) is dict else None
    if parts is None:
        return said
    if type(parts) is not list:
        raise UpstreamInvalid("The provider sent parts that are no list.")
    for part in parts:
        if type(part) is not dict:
            raise UpstreamInvalid("The provider sent a part that is not an object.")
        signature = part.get("thoughtSignature")
        if "functionCall" in part:
            said.calls.append(_tool_call(part["functionCall"], signature, f"{call_id}{len(said.calls)}"))
            continue
        if type(signature) is str and signature:
            said.signature = signature
        text = part.get("text")
        if text is None:
            continue  # code that ran, files and whatever comes next: no place for it
        if type(text) is not str:
            raise UpstreamInvalid("The provider sent a part whose text is no text.")
        if part.get("thought") is True:
            said.thought += text
        else:
            said.text += text
    return said


def _tool_call(call: Any, signature: Any, otherwise: str) -> Json:
    if type(call) is not dict or type(call.get("name")) is not str or not call["name"]:
        raise UpstreamInvalid("The provider sent a function call without a name.")
    given, arguments = call.get("id"), call.get("args")
    if arguments is not None and type(arguments) is not dict:
        raise UpstreamInvalid("The provider sent a function call whose arguments are no object.")
    found: Json = {
        "id": given if type(given) is str and given else otherwise,
        "type": "function",
        "function": {"name": call["name"], "arguments": orjson.dumps(arguments or {}).decode()},
    }
    if type(signature) is str and signature:
        found["extra_content"] = extra_content(signature)
    return found


def extra_content(signature: str) -> Json:
    return {"google": {"thought_signature": signature}}


def finish_of(said: str, *, tools: bool, anything: bool) -> str:
    """The finish in OpenAI's words. Raises UpstreamInvalid where the model broke off with something that is no answer,
    and where nothing was said for a reason that is none."""
    if said in _BROKEN:
        raise UpstreamInvalid("The model wrote a function call that cannot be read.")
    if said in _FILTERED:
        return "content_filter"
    found = _FINISHES.get(said)
    if found is None and not anything:
        raise UpstreamInvalid("The model gave no answer, and no reason why.")
    return "tool_calls" if tools and found != "length" else found or "stop"


def blocked(answer: Json) -> str:
    """Why the prompt was not answered at all, as the refusal a client sees; "" if it was."""
    feedback = answer.get("promptFeedback")
    reason = feedback.get("blockReason") if type(feedback) is dict else None
    if type(reason) is not str or not reason:
        return ""
    word = reason.lower() if reason.isascii() and len(reason) <= 40 else "other"
    return f"The provider's filter stopped this prompt ({word.replace('_', ' ')})."


def completion(body: bytes, call: Call) -> Completed:
    """A whole response as a chat completion."""
    answer = answer_of(body, byok=call.target.key_source == "byok")
    candidates = candidates_of(answer)
    refusal = "" if candidates else blocked(answer)
    if not candidates and not refusal:
        raise UpstreamInvalid("The provider's answer has no candidates.")
    choices = [_choice(one, position, call) for position, one in enumerate(candidates)]
    if refusal:
        message = {"role": "assistant", "content": None, "refusal": refusal}
        choices = [{"index": 0, "message": message, "logprobs": None, "finish_reason": "content_filter"}]
    produced = not refusal and output_bytes({"choices": choices}) > 0
    known, model = answer.get("responseId"), answer.get("modelVersion")
    shown: Json = {
        "id": known if type(known) is str and known else f"chatcmpl-{call.request_id}",
        "object": "chat.completion",
        "created": created_at(call.request_id),
        "model": model if type(model) is str and model else call.target.model.model_id,
        "choices": choices,
    }
    usage = openai_usage(answer.get("usageMetadata"), final=True, produced=produced)
    if usage is not None:
        shown["usage"] = usage
    return Completed(body=shown, usage=usage, service_tier=service_tier_of(answer.get("usageMetadata")))


def _choice(candidate: Json, position: int, call: Call) -> Json:
    index = candidate.get("index")
    index = index if type(index) is int else position
    said = said_by(candidate, call_id(call, index))
    message: Json = {"role": "assistant", "content": said.text or (None if said.calls else ""), "refusal": None}
    if said.thought:
        message["reasoning_content"] = said.thought
    if said.calls:
        message["tool_calls"] = said.calls
    if said.signature:
        message["extra_content"] = extra_content(said.signature)
    if said.finish is not None and type(said.finish) is not str:
        raise UpstreamInvalid("The provider sent a finish that is no text.")
    anything = bool(said.text or said.thought or said.calls)
    if said.finish is None and not anything:
        raise UpstreamInvalid("The provider's answer says nothing.")
    finish = finish_of(said.finish or "STOP", tools=bool(said.calls), anything=anything)
    return {"index": index, "message": message, "logprobs": said.logprobs, "finish_reason": finish}


def call_id(call: Call, index: int) -> str:
    """What ids of tool calls begin with where Gemini gave none: unlike those of any other request."""
    return f"call_{call.request_id.replace('-', '')[-20:]}_{index}_"


def service_tier_of(counted: Any) -> str:
    """The service tier that was used, as `usageMetadata` says it; empty if it does not."""
    found = counted.get("serviceTier") if type(counted) is dict else None
    return found.lower().removeprefix("service_tier_") if type(found) is str else ""


def openai_usage(raw: Any, *, final: bool, produced: bool) -> Json | None:
    """Gemini's counts in the OpenAI shape; None if there is no count of a prompt, or one that is none.

    Thoughts are beside the candidates, unless the total says otherwise; results of tools are beside the prompt (source:
    GenerateContentResponseUsageMetadata of googleapis/python-genai). A zero may be left out on the wire. So a missing
    count of candidates is what the total leaves, and where that is nothing although something was produced, or while
    more is to come, it has not been counted yet: then there are no `completion_tokens`.
    """
    if type(raw) is not dict or not raw.get("promptTokenCount"):
        return None
    counts = {name: raw[name] if raw.get(name) is not None else 0 for name in _COUNTS}
    if any(type(count) is not int or count < 0 for count in counts.values()):
        return None
    thoughts, candidates, total = (counts[name] for name in ("thoughtsTokenCount", _CANDIDATES, "totalTokenCount"))
    prompt = counts["promptTokenCount"] + counts["toolUsePromptTokenCount"]
    prompt_media = _media(raw, "promptTokensDetails", "toolUsePromptTokensDetails")
    shown: Json = {
        "prompt_tokens": prompt,
        "prompt_tokens_details": {"cached_tokens": counts["cachedContentTokenCount"], **prompt_media},
        "completion_tokens_details": {"reasoning_tokens": thoughts, **_media(raw, "candidatesTokensDetails")},
    }
    cached_media = _media(raw, "cacheTokensDetails")
    if cached_media:
        shown["prompt_tokens_details"]["cached_tokens_details"] = cached_media
    if raw.get(_CANDIDATES) is None:
        candidates = max(0, total - prompt - thoughts) if final else 0
        if not candidates and (produced or not final):
            return shown
    inside = thoughts and total == prompt + candidates
    shown["completion_tokens"] = candidates if inside else candidates + thoughts
    shown["total_tokens"] = prompt + shown["completion_tokens"]
    return shown


def _media(raw: Json, *names: str) -> dict[str, int]:
    """Of these counts, the tokens that are no text, in OpenAI's words. What is no count is left out."""
    found: dict[str, int] = {}
    for name in names:
        listed = raw.get(name)
        for one in listed if type(listed) is list else ():
            kind = _MODALITIES.get(str(one.get("modality"))) if type(one) is dict else None
            count = one.get("tokenCount") if kind else None
            if kind and type(count) is int and count > 0:
                found[kind] = found.get(kind, 0) + count
    return found


def merged_usage(before: Json, said: Any) -> Json:
    """Counts are cumulative, and may come on any event: each name's last word counts, and none ever falls."""
    if type(said) is not dict:
        return before
    for name in _COUNTS:
        value = said.get(name)
        if value is None:
            continue
        known = before.get(name)
        before[name] = max(value, known) if type(value) is int and type(known) is int and value >= 0 else value
    before |= {name: said[name] for name in _DETAILS if said.get(name)}
    return before


def _logprobs(result: Any) -> Json | None:
    """`logprobs` as OpenAI has it. Gemini gives tokens as text; their bytes are its UTF-8."""
    chosen = result.get("chosenCandidates") if type(result) is dict else None
    if type(chosen) is not list:
        return None
    tops = result.get("topCandidates")
    content = []
    for position, one in enumerate(chosen):
        top = tops[position] if type(tops) is list and position < len(tops) else None
        others = top.get("candidates") if type(top) is dict else None
        token = _logprob(one)
        token["top_logprobs"] = [_logprob(other) for other in others] if type(others) is list else []
        content.append(token)
    return {"content": content, "refusal": None}


def _logprob(one: Any) -> Json:
    if type(one) is not dict:
        raise UpstreamInvalid("The provider sent log probabilities that are none.")
    token, value = one.get("token", ""), one.get("logProbability", 0.0)  # proto3 leaves out what is empty or zero
    if type(token) is not str or type(value) not in (int, float):
        raise UpstreamInvalid("The provider sent log probabilities that are none.")
    return {"token": token, "logprob": value, "bytes": list(token.encode("utf-8", "surrogatepass"))}
