"""Embeddings at Bedrock: InvokeModel, in the words of the model's maker.

    Titan     one text a call; `dimensions` (v2); says how many tokens it read
    Cohere    up to 96 texts a call; says tokens in a header only, so they are estimated

Quirk `embeddings`: "titan" (default) or "cohere", where the model's id does not say it. Source: docs.aws.amazon.com/
bedrock, "Amazon Titan Embeddings Text" and "Cohere Embed".
"""

from typing import Any

from llm.calls import Call, Completed, Upstream
from llm.errors import InvalidRequest, UpstreamInvalid
from llm.providers import failures
from llm.providers.bedrock import Bedrock

Json = dict[str, Any]
_TRANSLATED = frozenset({"model", "input", "dimensions", "encoding_format"})
_MOST_TEXTS = 96


class BedrockEmbeddings(Bedrock):
    """Implements `base.Adapter`."""

    def build(self, call: Call) -> Upstream:
        texts = _texts(call.body.get("input"))
        dimensions = call.body.get("dimensions")
        dropped = {name for name, value in call.body.items() if name not in _TRANSLATED and value is not None}
        if _is_cohere(call):
            if len(texts) > _MOST_TEXTS:
                raise InvalidRequest(f"This model takes at most {_MOST_TEXTS} texts a call.", param="input")
            kind = call.body.get("input_type")
            body: Json = {"texts": texts, "input_type": kind if isinstance(kind, str) else "search_document"}
            if dimensions is not None:
                body["output_dimension"] = dimensions
            dropped.discard("input_type")
        else:
            if len(texts) != 1:
                raise InvalidRequest("This model takes one text a call. Send one request for each.", param="input")
            body = {"inputText": texts[0]}
            if dimensions is not None:
                body["dimensions"] = dimensions
        return self.post(call, "invoke", body, sorted(dropped))

    def parse_response(self, body: bytes, call: Call) -> Completed:
        answer = failures.loaded(body)
        vectors = _vectors(answer, call)
        found: Json = {
            "object": "list",
            "data": [{"object": "embedding", "index": index, "embedding": one} for index, one in enumerate(vectors)],
            "model": call.target.model.model_id,
        }
        counted = answer.get("inputTextTokenCount")
        usage = {"prompt_tokens": counted, "total_tokens": counted} if type(counted) is int and counted >= 0 else None
        if usage is not None:
            found["usage"] = usage
        return Completed(body=found, usage=usage)


ADAPTER = BedrockEmbeddings()


def _is_cohere(call: Call) -> bool:
    model = call.target.model
    said = model.quirks.get("embeddings")
    return said == "cohere" if isinstance(said, str) else "cohere." in model.model_id


def _texts(given: Any) -> list[str]:
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(one, str) for one in texts):
        raise InvalidRequest("This model's API takes text: `input` must be a string or a list of them.", param="input")
    return texts


def _vectors(answer: Json, call: Call) -> list[list[float]]:
    """As many vectors as there were texts. Raises UpstreamInvalid for anything else."""
    found: Any = answer.get("embeddings") if _is_cohere(call) else [answer.get("embedding")]
    if isinstance(found, dict):  # Cohere asked for types
        found = found.get("float")
    if not isinstance(found, list) or len(found) != len(_texts(call.body.get("input"))):
        raise UpstreamInvalid("The provider's answer does not hold a vector for each text.")
    for vector in found:
        if not isinstance(vector, list) or not vector or not all(type(one) in (float, int) for one in vector):
            raise UpstreamInvalid("The provider's answer holds a vector that is none.")
    return found
