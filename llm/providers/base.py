"""What an adapter is: a few pure functions that put one dialect into words. No I/O, retries, tenants or money."""

from datetime import datetime
from typing import Any, Protocol

from llm.calls import Call, Completed, StreamEvent, Upstream
from llm.errors import ProviderError
from llm.fields import Secret
from llm.types import Provider


class Decoder(Protocol):
    """Bytes of a stream in, payloads of events out. Bounded: raises UpstreamInvalid when one grows beyond its cap."""

    def feed(self, data: bytes) -> list[bytes]: ...

    def close(self) -> list[bytes]:
        """What was left unfinished when the stream ended and still makes an event."""
        ...


class StreamReader(Protocol):
    """Payloads of one stream in, chat chunks out. Holds what a dialect spreads over events (indexes, names, usage)."""

    def read(self, payload: bytes) -> list[StreamEvent]:
        """Raises ProviderError for an in-band error, UpstreamInvalid for what is no event."""
        ...


class Adapter(Protocol):
    """One dialect."""

    def models_request(self, provider: Provider, secret: Secret | None, *, now: datetime, path: str = "") -> Upstream:
        """A GET with the key: the cheapest true call, its list of models, or another path below its base URL. Raises
        ValueError for a key that cannot be one. `now` is for keys that sign."""
        ...

    def build(self, call: Call) -> Upstream:
        """The provider's request. Raises InvalidRequest naming the parameter the dialect cannot express."""
        ...

    def parse_response(self, body: bytes, call: Call) -> Completed:
        """Raises UpstreamInvalid for what is no answer, ProviderError for an error under 200."""
        ...

    def decoder(self) -> Decoder: ...

    def reader(self, call: Call) -> StreamReader: ...

    def parse_error(self, status: int, headers: dict[str, str], body: bytes, *, byok: bool) -> ProviderError:
        """The error a non-2xx answer is. Header names are lower case. Never quotes text on 401 and 403."""
        ...


Json = dict[str, Any]
