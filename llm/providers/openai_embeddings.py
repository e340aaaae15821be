"""Embeddings in the OpenAI dialect: `/embeddings`, as every OpenAI-compatible vendor speaks it.

Vectors come back as lists of numbers whatever the client asked for: the wire packs them as it wishes. Unknown fields
pass through. Quirks of a provider or model, all optional, beside those of `openai`:

    dimensions         true: the model's vectors can be shortened; or what the vendor calls that parameter
                       ("output_dimension", Mistral). Without it `dimensions` is refused
    embedding_base64   true: vectors are asked for as base64, a third of the bytes (OpenAI); else as numbers
    token_input        true: token ids are taken as input, too (OpenAI)
    most_inputs        how many inputs a request may have
"""

import orjson

from llm.calls import Call, Completed, Upstream
from llm.errors import InvalidRequest, UpstreamInvalid
from llm.providers import embeddings, failures
from llm.providers.openai import OpenAI, is_byok, json_headers, secret_of
from llm.providers.openai_request import unsupported

_OURS = frozenset({"model", "input", "dimensions", "encoding_format", "stream"})


class OpenAIEmbeddings(OpenAI):
    """Implements `base.Adapter` for the kind `embedding`."""

    def build(self, call: Call) -> Upstream:
        model, given = call.target.model, call.body
        quirks = model.quirks
        found = embeddings.inputs(given, most=quirks.get("most_inputs"), token_arrays=bool(quirks.get("token_input")))
        refused = unsupported(quirks)
        body = {
            name: value
            for name, value in given.items()
            if value is not None and name not in _OURS and name not in refused
        }
        dropped = sorted(name for name in refused if given.get(name) is not None)
        body |= {"model": model.model_id, "input": found}
        if quirks.get("embedding_base64"):
            body["encoding_format"] = "base64"
        dimensions = embeddings.dimensions_field(given, quirks)
        if dimensions is not None:
            body[dimensions] = given["dimensions"]
        try:
            payload = orjson.dumps(body)
        except TypeError as error:
            raise InvalidRequest("The request holds text that is not valid Unicode.", param="input") from error
        return Upstream(
            url=model.provider.base_url.rstrip("/") + "/embeddings",
            headers=json_headers(stream=False) | self.auth_headers(model.provider, secret_of(call)),
            body=payload,
            dropped=tuple(dropped),
        )

    def parse_response(self, body: bytes, call: Call) -> Completed:
        answer = failures.answered(body, byok=is_byok(call))
        rows = answer.get("data")
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise UpstreamInvalid("The provider's answer has no vectors.")
        usage = answer.get("usage")
        model = answer.get("model")
        return embeddings.listed(
            [embeddings.vector(row.get("embedding")) for row in _in_order(rows)],
            expected=len(embeddings.inputs(call.body, token_arrays=True)),
            model=model if isinstance(model, str) and model else call.target.model.model_id,
            usage=usage if isinstance(usage, dict) and usage else None,
        )


ADAPTER = OpenAIEmbeddings()


def _in_order(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """By `index`, which must count all rows from 0; as they came where no row has one. Raises UpstreamInvalid."""
    if all(row.get("index") is None for row in rows):
        return rows
    places: list[dict[str, object] | None] = [None] * len(rows)
    for row in rows:
        index = row.get("index")
        if type(index) is not int or not 0 <= index < len(rows) or places[index] is not None:
            raise UpstreamInvalid("The provider sent vectors that are not numbered from 0.")
        places[index] = row
    return [row for row in places if row is not None]
