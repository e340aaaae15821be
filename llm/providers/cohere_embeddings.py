"""Cohere's embeddings: `/v2/embed` for OpenAI's body.

`input_type` is a must there and unknown to OpenAI: the client's own, else `search_document`. A text that is too long
is refused, as OpenAI does, not cut (Cohere's default), unless the client sends a `truncate` of its own. The quirk
`dimensions` says that the model takes them (Embed v4 and newer).
"""

from llm.calls import Call, Completed, Upstream
from llm.errors import UpstreamInvalid
from llm.providers import cohere_answer, embeddings
from llm.providers.cohere import Cohere, upstream

_MOST_TEXTS = 96  # of one call (API reference of /v2/embed)
_TRANSLATED = frozenset({"input", "model", "dimensions", "encoding_format", "input_type", "truncate", "stream"})


class CohereEmbeddings(Cohere):
    """Implements `base.Adapter` for the kind `embedding`."""

    def build(self, call: Call) -> Upstream:
        given = call.body
        model = call.target.model
        body = {
            "model": model.model_id,
            "texts": embeddings.inputs(given, most=_MOST_TEXTS),
            "input_type": given.get("input_type") or "search_document",
            "embedding_types": ["float"],
            "truncate": given.get("truncate") or "NONE",
        }
        if embeddings.dimensions_field(given, model.quirks):
            body["output_dimension"] = given["dimensions"]
        dropped = sorted(name for name, value in given.items() if value is not None and name not in _TRANSLATED)
        return upstream(self, call, "/embed", body, dropped)

    def parse_response(self, body: bytes, call: Call) -> Completed:
        answer = cohere_answer.loaded(body, call)
        found = answer.get("embeddings")
        rows = found.get("float") if isinstance(found, dict) else None
        if not isinstance(rows, list):
            raise UpstreamInvalid("The provider's answer has no vectors.")
        meta = answer.get("meta")
        billed = meta.get("billed_units") if isinstance(meta, dict) else None
        count = cohere_answer.whole(billed.get("input_tokens")) if isinstance(billed, dict) else None
        usage = None if count is None else {"prompt_tokens": count, "total_tokens": count}
        vectors = [embeddings.vector(row) for row in rows]
        expected = len(embeddings.inputs(call.body))
        return embeddings.listed(vectors, expected=expected, model=call.target.model.model_id, usage=usage)


ADAPTER = CohereEmbeddings()
