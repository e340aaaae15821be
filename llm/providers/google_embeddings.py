"""The Google dialect: embeddings.

Gemini's embedding models take many texts in one batchEmbedContents, at the Gemini API and at Vertex AI; Vertex's older
ones (text-embedding-*) take `predict` instead (source: `embed_content` of googleapis/python-genai). Only some answers
say how many tokens there were: where one does not, there is no usage, and the engine estimates.
"""

from typing import Any

from llm.calls import Call, Completed, Upstream
from llm.errors import InvalidRequest, UpstreamInvalid
from llm.providers import google
from llm.providers.google_response import answer_of

Json = dict[str, Any]
_MOST = 100  # requests of one batch, or instances (250 at some models, fewer at others)
_KNOWN = frozenset({"model", "input", "dimensions", "encoding_format"})  # the format is the wire's own affair


class GoogleEmbeddings(google.Google):
    """Implements `base.Adapter` for embeddings."""

    def build(self, call: Call) -> Upstream:
        texts = _texts(call.body.get("input"))
        size = call.body.get("dimensions")
        if _predicts(call):
            instances = [{"content": text} for text in texts]
            body: Json = {"instances": instances}
            if size is not None:
                body["parameters"] = {"outputDimensionality": size}
        else:
            model_id = call.target.model.model_id
            named: Json = {"model": model_id if "/" in model_id else f"models/{model_id}"}
            if size is not None:
                named["outputDimensionality"] = size
            body = {"requests": [named | {"content": {"parts": [{"text": text}]}} for text in texts]}
        dropped = sorted(name for name, value in call.body.items() if name not in _KNOWN and value is not None)
        return google.upstream(call, "predict" if _predicts(call) else "batchEmbedContents", body, dropped)

    def parse_response(self, body: bytes, call: Call) -> Completed:
        answer = answer_of(body, byok=call.target.key_source == "byok")
        predicts = _predicts(call)
        found = answer.get("predictions" if predicts else "embeddings")
        if type(found) is not list or len(found) != len(_texts(call.body.get("input"))):
            raise UpstreamInvalid("The provider's answer has not one embedding for each input.")
        entries = [_entry(one, predicts=predicts) for one in found]
        data = [
            {"object": "embedding", "index": index, "embedding": _vector(entry)} for index, entry in enumerate(entries)
        ]
        usage = _usage(answer, entries)
        shown: Json = {"object": "list", "data": data, "model": call.target.model.model_id}
        if usage is not None:
            shown["usage"] = usage
        return Completed(body=shown, usage=usage)


ADAPTER = GoogleEmbeddings()


def _predicts(call: Call) -> bool:
    model = call.target.model
    return google.is_vertex(model.provider) and "gemini" not in model.model_id


def _texts(given: Any) -> list[str]:
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(one, str) for one in texts):
        raise InvalidRequest("This model's API takes text only: send `input` as a string or strings.", param="input")
    if len(texts) > _MOST:
        raise InvalidRequest(f"This model's API takes at most {_MOST} inputs in one request.", param="input")
    return texts


def _entry(found: Any, *, predicts: bool) -> Json:
    entry = found.get("embeddings") if predicts and type(found) is dict else found
    if type(entry) is not dict:
        raise UpstreamInvalid("The provider sent an embedding that is not an object.")
    return entry


def _vector(entry: Json) -> list[float]:
    values = entry.get("values")
    if type(values) is not list or not values or not all(type(one) in (float, int) for one in values):
        raise UpstreamInvalid("The provider sent an embedding that is no list of numbers.")
    return values


def _usage(answer: Json, entries: list[Json]) -> Json | None:
    """Tokens of all inputs together, if each was counted."""
    said = answer.get("usageMetadata")
    tokens = said.get("promptTokenCount") if type(said) is dict else None
    if tokens is None:
        counts = [_count(entry) for entry in entries]
        known = [count for count in counts if count is not None]
        tokens = sum(known) if len(known) == len(counts) else None
    if type(tokens) is not int or tokens <= 0:
        return None
    return {"prompt_tokens": tokens, "total_tokens": tokens}


def _count(entry: Json) -> int | None:
    """Vertex counts in whole numbers that are written as floats ("token_count": 4.0)."""
    statistics = entry.get("statistics")
    found = statistics.get("token_count", statistics.get("tokenCount")) if type(statistics) is dict else None
    return int(found) if isinstance(found, int | float) and found >= 0 and found == int(found) else None
