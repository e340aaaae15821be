"""Every status, header and error body a provider may fail with, and what may be said of it."""

import time
from typing import Any

import orjson
import pytest

from llm.errors import (
    ByokRejected,
    ProviderError,
    UpstreamAuthFailed,
    UpstreamFailed,
    UpstreamInvalid,
    UpstreamRateLimited,
    UpstreamRejected,
)
from llm.providers import registry
from llm.providers.failures import UpstreamModelMissing, by_status, in_band, retry_after, sanitised

LEAK = "SECRET-TEXT-OF-THE-PROVIDER"


def error(status: int, body: Any = None, *, byok: bool = False, **headers: str) -> ProviderError:
    raw = body if isinstance(body, bytes) else orjson.dumps(body if body is not None else {"error": {"message": LEAK}})
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return by_status(status, named, raw, byok=byok)


@pytest.mark.parametrize(
    ("status", "kind", "answer", "fallback", "retryable"),
    [
        (400, UpstreamRejected, 400, False, False),
        (413, UpstreamRejected, 400, False, False),
        (422, UpstreamRejected, 400, False, False),
        (401, UpstreamAuthFailed, 502, True, False),
        (402, UpstreamAuthFailed, 502, True, False),
        (403, UpstreamAuthFailed, 502, True, False),
        (404, UpstreamModelMissing, 502, True, False),
        (408, UpstreamFailed, 502, True, True),
        (429, UpstreamRateLimited, 429, True, True),
        (500, UpstreamFailed, 502, True, True),
        (503, UpstreamFailed, 502, True, True),
        (529, UpstreamFailed, 502, True, True),
        (302, UpstreamInvalid, 502, True, True),
        (409, UpstreamInvalid, 502, True, True),
        (418, UpstreamInvalid, 502, True, True),
    ],
)
@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_each_status_is_the_error_of_the_table(
    dialect: str, status: int, kind: type[ProviderError], answer: int, fallback: bool, retryable: bool
) -> None:
    body = orjson.dumps({"error": {"message": LEAK}})
    found = registry.adapter(dialect).parse_error(status, {}, body, byok=False)
    assert type(found) is kind
    assert (found.status, found.fallback, found.retryable) == (answer, fallback, retryable)
    assert (LEAK in found.message) == (answer == 400)


@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_refused_own_key_is_the_tenants_and_never_falls_back(status: int) -> None:
    found = error(status, byok=True)
    assert type(found) is ByokRejected
    assert (found.status, found.code, found.fallback, found.retryable) == (400, "byok_rejected", False, False)
    assert LEAK not in found.message


def test_a_missing_model_says_nothing_of_the_providers_health() -> None:
    found = error(404)
    assert (found.counts, found.code) == (False, "upstream_error")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "bad thing", "type": "x"}}, "bad thing"),
        ({"error": "bad thing"}, "bad thing"),
        ({"message": "bad thing"}, "bad thing"),
        ({"detail": "bad thing"}, "bad thing"),
        ({"type": "error", "error": {"type": "invalid_request_error", "message": "bad thing"}}, "bad thing"),
        ({"detail": [{"loc": ["body", "seed"], "msg": "extra"}, {"loc": ["top_k"], "msg": "no"}]},
         "seed: extra; top_k: no"),
        ({"object": "error", "message": {"detail": [{"loc": ["body", "n"], "msg": "Extra"}]}}, "n: Extra"),
        ([{"error": {"code": 400, "message": "bad thing"}}], "bad thing"),
        (b"bad thing", "bad thing"),
        (b'"bad thing"', "bad thing"),
    ],
)  # fmt: skip
def test_the_reason_is_found_in_every_vendors_body(body: Any, message: str) -> None:
    assert error(400, body).message == f"The provider rejected the request: {message}"


@pytest.mark.parametrize("body", [b"", b"<html><body>Bad Request</body></html>", b"{}", b"[]", b"null", b"[1]", b"5"])
def test_a_rejection_without_a_reason_still_reads_well(body: bytes) -> None:
    assert error(400, body).message == "The provider rejected the request with status 400 and no reason."


def test_the_parameter_is_passed_on_if_it_looks_like_one() -> None:
    assert error(400, {"error": {"message": "m", "param": "messages[0].content"}}).param == "messages[0].content"
    assert error(400, {"error": {"message": "m", "param": "https://evil.example/ <b>"}}).param is None
    assert error(400, {"error": {"message": "m", "param": 7}}).param is None


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Incorrect API key provided: sk-proj-abc*****wxyz. Find it at https://platform.openai.com/account/api-keys.",
         "Incorrect API key provided: [removed] Find it at [removed]"),
        ("key sk-ant-api03-AbCd_12-34 refused", "key [removed] refused"),
        ("Authorization: Bearer abcdef123456", "Authorization: [removed]"),
        ("org-AbCdEf123456GhIj hit its limit", "[removed] hit its limit"),
        ("upstream api.internal.svc:8080/v1/x at 10.0.0.7:443 and localhost:11434 failed",
         "upstream [removed] at [removed] and [removed] failed"),
        ("mail ops@vendor.example now", "mail [removed] now"),
        ("token 0123456789abcdef0123456789abcdef", "token [removed]"),
        ("tools.0.custom.name: user_lookup_v2 of gpt-4o-2024-08-06 and claude-sonnet-4-20250514",
         "tools.0.custom.name: user_lookup_v2 of gpt-4o-2024-08-06 and claude-sonnet-4-20250514"),
        ("max_tokens: 5 > 4, e.g. use 4.1", "max_tokens: 5 > 4, e.g. use 4.1"),
        ("a\x00b\r\n\tc\u2028d", "a b c d"),
    ],
)  # fmt: skip
def test_shown_text_names_no_key_host_or_account(said: str, shown: str) -> None:
    assert sanitised(said) == shown


def test_shown_text_is_at_most_300_characters() -> None:
    assert sanitised("y " * 5000) == ("y " * 150)[:299] + "…"
    assert len(sanitised("y" * 100_000)) == 300


@pytest.mark.parametrize("text", ["a.", "a-", "a@", "1.", "*a", "sk-", "a://", "key_1", "."])
def test_hostile_text_is_made_safe_in_little_time(text: str) -> None:
    started = time.process_time()
    sanitised(text * 5000)
    assert time.process_time() - started < 0.1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "400", "retry-after": "1"}, 1.0),
        ({"retry-after-ms": "2500", "retry-after": "2"}, 2.5),
        ({"retry-after": "Sun, 22 Nov 2026 06:16:30 GMT", "date": "Sun, 22 Nov 2026 06:15:19 GMT"}, 71.0),
        ({"retry-after": "Sun, 22 Nov 2026 06:00:00 GMT", "date": "Sun, 22 Nov 2026 06:15:19 GMT"}, 0.0),
        ({"retry-after": "86400"}, 86400.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "1e9"}, None),
        ({"retry-after": "٣"}, None),
    ],
)
def test_retry_after_is_read_as_it_is_said(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_a_rate_limit_carries_its_retry_after() -> None:
    found = error(429, retry_after="12")
    assert (found.retry_after, found.code, found.type) == (12.0, "upstream_rate_limited", "rate_limit_error")


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({"type": "overloaded_error", "message": LEAK}, UpstreamFailed),
        ({"type": "api_error", "message": LEAK}, UpstreamFailed),
        ({"type": "rate_limit_error", "message": LEAK}, UpstreamRateLimited),
        ({"code": 429, "message": LEAK}, UpstreamRateLimited),
        ({"code": "429", "message": LEAK}, UpstreamRateLimited),
        ({"code": "insufficient_quota", "type": "insufficient_quota"}, UpstreamRateLimited),
        ({"code": 502, "message": LEAK}, UpstreamFailed),
        ({"type": "authentication_error", "message": LEAK}, UpstreamAuthFailed),
        ({"type": "permission_error"}, UpstreamAuthFailed),
        ({"type": "invalid_request_error", "code": "invalid_api_key"}, UpstreamAuthFailed),
        ({"type": "not_found_error"}, UpstreamModelMissing),
        ({"type": "invalid_request_error", "code": "model_not_found"}, UpstreamModelMissing),
        ({"type": "server_error"}, UpstreamFailed),
        ({"message": LEAK}, UpstreamFailed),
        (LEAK, UpstreamFailed),
        ([1], UpstreamFailed),
        ({"code": True}, UpstreamFailed),
    ],
)
def test_an_error_under_200_is_what_it_says_and_unknown_ones_may_fall_back(
    said: Any, kind: type[ProviderError]
) -> None:
    found = in_band(said, byok=False)
    assert type(found) is kind
    assert found.fallback
    assert LEAK not in found.message


def test_a_rejection_under_200_gives_its_reason_and_an_own_key_is_named_as_such() -> None:
    found = in_band({"type": "invalid_request_error", "message": "too long"}, byok=False)
    assert type(found) is UpstreamRejected
    assert found.message == "The provider rejected the request: too long"
    assert type(in_band({"type": "authentication_error"}, byok=True)) is ByokRejected
