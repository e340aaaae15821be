"""What a reasoning item carries between two requests, so that nothing has to be stored here.

`encrypted_content` is base64 of `{"thinking_blocks": [...]}`: the provider's own blocks with the signatures by which it
knows them again. They are opaque to the client, as OpenAI's are; a client that changes them is refused by the provider.
"""

import base64
from typing import Any

import orjson

from llm.errors import InvalidRequest
from llm.wire import request as wire

Json = dict[str, Any]


def sealed(blocks: list[Json]) -> str:
    """Thinking blocks as `encrypted_content`. What they are is in strings: type, text, signature, sealed data."""
    kept = [{name: value for name, value in block.items() if isinstance(value, str)} for block in blocks]
    return base64.b64encode(orjson.dumps({"thinking_blocks": kept})).decode()


def unsealed(content: str, where: str) -> list[Json]:
    """The thinking blocks of `encrypted_content`. Raises InvalidRequest for what was not handed out here.

    Strings alone are taken: nobody who looks at the body sees what is in here, so no `cache_control` may be.
    """
    try:
        said = wire.load(base64.b64decode(content, validate=True))
    except (ValueError, InvalidRequest):
        said = {}
    blocks = said.get("thinking_blocks")
    if not isinstance(blocks, list) or not all(isinstance(one, dict) and _plain(one) for one in blocks):
        raise InvalidRequest(
            f"`{where}` was not handed out by this gateway. Leave the reasoning item out.", param=where
        )
    return blocks


def _plain(block: Json) -> bool:
    return all(isinstance(value, str) for value in block.values())
