"""What a scripted model does: one frozen `Behaviour`, every oddity of a vendor a field of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal

Json = dict[str, Any]
Placement = Literal["own_chunk", "last_content", "both", "cumulative", "never"]
CutHow = Literal["close", "reset", "stall"]

DEFAULT_TEXT = "Hello from the fake provider."


@dataclass(frozen=True)
class Behaviour:
    """How the provider answers one request. The default is an honest, quick vendor.

    Content
        text: the answer; None is `DEFAULT_TEXT`, or `{"answer": "42"}` under a `json_schema` response format.
        chunks: stream pieces: None is one per word, a number that many, a list exactly these (it replaces `text`).
        tool_calls: `{name, arguments, id?}`, sent if the request has `tools`. A string of arguments goes out untouched.
        reasoning: sent before the text as `reasoning_content` (OpenAI) or a thinking block (Anthropic).
        finish_reason: in the dialect's own words; "omit" sends no finish at all.
        extra_fields: merged into the answer and into every chunk. embedding_dims: length of vectors.

    Usage
        usage: what is *reported*: None honest, "none" nothing, or a dict over the honest one. Neutral keys, translated
            to the dialect: prompt_tokens (all of them, cached included), completion_tokens, cached_tokens,
            cache_creation_tokens (5 min), cache_creation_1h_tokens, reasoning_tokens. Other keys go out as they are.
            Sane values (an int, 0 to 10 million) are also *billed*; insane ones are only reported.
        prompt_tokens, completion_tokens: what is really billed, over everything else (and reported unless `usage` says
            otherwise). completion_tokens is for all choices together and may exceed the request's cap.
        bill_whole_cap: exactly the request's cap is produced and billed, for each of the n choices.
        usage_placement: "own_chunk" only when asked for; the others unasked: "last_content" on the finish chunk,
            "both", "cumulative" on every chunk, "never". Anthropic: own_chunk is its ordinary order, last_content
            leaves message_start without input tokens, both and cumulative repeat them in message_delta.

    Failure
        status, error_body (dict, bytes or str), retry_after: an error answer, by default in the vendor's style.
        in_band_error: an error object under 200 (in a stream after `in_band_error_after` content frames).
        cut_after_bytes, cut_how: stop after so many bytes of the response, head and chunk framing included.
        expected_key: 401 unless the request carries this key. bad_json: unparsable body, or first frame.
        empty_stream: a head and no frame at all.
        listing: sent as the model list (or as `/v1/model/info`, which only then exists) instead of the honest one.

    Time and bytes
        delay_first_s: before the first byte (with headers_first: between head and body). delay_between_s: between
            pieces.
        crlf, comments, multi_data (JSON over two `data:` lines), no_done, double_done, no_final_blank: SSE oddities.
        split_at: sizes of the writes of the body, repeated to its end: `(1,)` is byte by byte.
        missing_finish_keys, omit_tool_index, role_every_chunk, id_changes: chunk oddities (OpenAI).
        giant_line_bytes: a data line (or a plain body) of at least so many bytes, first. gzip: sent compressed,
            asked or not; with giant_line_bytes a bomb. extra_headers: added to the response.
    """

    text: str | None = None
    chunks: int | Sequence[str] | None = None
    tool_calls: Sequence[Json] = ()
    reasoning: str | None = None
    finish_reason: str | None = None
    extra_fields: Json | None = None
    embedding_dims: int = 8

    usage: Json | Literal["none"] | None = None
    usage_placement: Placement = "own_chunk"
    bill_whole_cap: bool = False
    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    status: int = 200
    error_body: Json | bytes | str | None = None
    retry_after: float | str | None = None
    in_band_error: Json | None = None
    in_band_error_after: int = 0
    cut_after_bytes: int | None = None
    cut_how: CutHow = "close"
    expected_key: str | None = None
    bad_json: bool = False
    empty_stream: bool = False
    listing: Any = None

    delay_first_s: float = 0.0
    headers_first: bool = False
    delay_between_s: float = 0.0
    crlf: bool = False
    comments: bool = False
    multi_data: bool = False
    split_at: Sequence[int] = ()
    no_done: bool = False
    double_done: bool = False
    no_final_blank: bool = False
    missing_finish_keys: bool = False
    omit_tool_index: bool = False
    role_every_chunk: bool = False
    id_changes: bool = False
    giant_line_bytes: int = 0
    gzip: bool = False
    extra_headers: dict[str, str] | None = None

    def __post_init__(self) -> None:
        """Refuse a script that could never end."""
        if any(size < 1 for size in self.split_at):
            raise ValueError("split_at: every size must be at least 1")

    def to_json(self) -> Json:
        """Only the fields that differ from the default, for the control endpoint."""
        found: Json = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.default is MISSING or value != field.default:
                found[field.name] = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        return found


DEFAULT = Behaviour()
