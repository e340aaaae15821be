"""What every accepted answer says of itself in its headers, on every client wire."""

import re
from collections.abc import Mapping
from decimal import Decimal

from llm.engine.completion import Reply
from llm.wire import sse

Headers = list[tuple[bytes, bytes]]
SAME: Mapping[str, str] = {}
_ROOT = re.compile(r"[.\[]")


def named(field: str, names: Mapping[str, str]) -> str:
    """A field of a chat body (`messages[2].content`) in the words of a wire whose `names` for them differ. Positions
    are left out there: they are those of the translation."""
    return names.get(_ROOT.split(field, maxsplit=1)[0], field)


def headers_of(reply: Reply, names: Mapping[str, str] = SAME) -> Headers:
    """Which model answered, with which key, what it cost, what was dropped, and the standing of each limit. `names`:
    what the wire calls the fields of a chat body."""
    target = reply.target
    headers = [
        (b"x-request-id", reply.request_id.encode()),
        (b"x-provider-used", _latin(target.model.provider.slug)),
        (b"x-model-used", _latin(target.model.model_id)),
        (b"x-used-byok", b"true" if target.key_source == "byok" else b"false"),
        (b"x-was-fallback", b"true" if reply.was_fallback else b"false"),
        (b"x-overhead-ms", str(reply.overhead_ms).encode()),
    ]
    if reply.cost_usd is not None:
        headers.append((b"x-cost-incurred", _plain(reply.cost_usd)))
    if reply.dropped:
        headers.append((b"x-dropped-params", _latin(", ".join(named(field, names) for field in reply.dropped))))
    for standing in reply.standings:
        what = standing.what.encode()
        headers += [
            (b"x-ratelimit-limit-" + what, str(standing.limit).encode()),
            (b"x-ratelimit-remaining-" + what, str(standing.remaining).encode()),
            (b"x-ratelimit-reset-" + what, f"{standing.reset_s:.0f}s".encode()),
        ]
    if reply.channel is not None:
        headers += sse.HEADERS
    else:
        headers.append((b"content-type", b"application/json"))
    return headers


def _latin(text: str) -> bytes:
    """A header value: what is not printable ASCII cannot break out of it."""
    return text.encode("ascii", "replace").replace(b"\r", b"?").replace(b"\n", b"?")


def _plain(amount: Decimal) -> bytes:
    return f"{amount.normalize():f}".encode()
