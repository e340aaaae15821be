"""The sandbox's embeddings: a unit vector of each input's hash, the same every time. No socket, no key.

Its tokens are the words of a text, or the token ids of a list; at least one.
"""

import hashlib
import math
import struct

from llm.calls import Call, Completed, StreamEvent
from llm.errors import InvalidRequest
from llm.providers import embeddings
from llm.providers.sandbox import Sandbox

DIMENSIONS = 256
_MOST_DIMENSIONS = 4096


class SandboxEmbeddings(Sandbox):
    """`respond` in place of a call."""

    def respond(self, call: Call) -> Completed:
        """Raises InvalidRequest naming the parameter that is wrong."""
        given = embeddings.inputs(call.body, token_arrays=True)
        wanted = call.body.get("dimensions")
        size = DIMENSIONS if wanted is None else wanted
        if type(size) is not int or not 1 <= size <= _MOST_DIMENSIONS:
            raise InvalidRequest(f"`dimensions` must be a whole number to {_MOST_DIMENSIONS}.", param="dimensions")
        tokens = max(1, sum(len(one.split() if isinstance(one, str) else one) for one in given))
        return embeddings.listed(
            [unit_vector(one, size) for one in given],
            expected=len(given),
            model=call.target.model.model_id,
            usage={"prompt_tokens": tokens, "total_tokens": tokens},
        )

    def stream(self, call: Call) -> list[StreamEvent]:
        raise InvalidRequest("Embeddings are not streamed.", param="stream")


ADAPTER = SandboxEmbeddings()


def unit_vector(one: object, size: int) -> list[float]:
    """Numbers of the hash of `one`, as long as 1 together."""
    digest = hashlib.shake_128(repr(one).encode("utf-8", "surrogatepass")).digest(2 * size)
    numbers = [number or 1 for number in struct.unpack(f"<{size}h", digest)]
    length = math.sqrt(sum(number * number for number in numbers))
    return [number / length for number in numbers]
