"""Server-sent events towards the client."""

HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]
DONE = b"data: [DONE]\n\n"
PING = b": ping\n\n"


def frame(payload: bytes) -> bytes:
    """One event. `payload` is one line of JSON."""
    return b"data: " + payload + b"\n\n"
