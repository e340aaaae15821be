"""A provider's failure as one of ours: by status, by what an error object inside a 200 says, and with safe words.

A client sees a provider's own text only where the provider judged the client's request (400, 413, 422), without URLs,
hosts, keys and account ids. Everything else is said in our words.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar

import orjson

from llm.errors import (
    ByokRejected,
    ProviderError,
    UpstreamAuthFailed,
    UpstreamFailed,
    UpstreamInvalid,
    UpstreamRateLimited,
    UpstreamRejected,
)

_MESSAGE_CAP = 300
_BODY_CAP = 64 * 1024  # bytes of an error body that are looked at
_REMOVED = "[removed]"
_TLDS = "com|net|org|ai|io|dev|cloud|app|co|cn|eu|us|uk|fr|de|internal|local|localdomain|svc|lan|xyz|tech|run|sh"
_UNSAFE = re.compile(
    r"""
    \b[a-z][a-z0-9+.-]{1,15}://[^\s'"<>)\]]+                           # URLs
    | \b(?:bearer|basic)\s+[\w.~+/*-]{6,}=*                             # authorisation headers
    | \b(?:sk|pk|rk|gsk|xai|hf|nvapi|csk|pplx|fw|tgp|tg_live)[-_][\w*.…-]{3,}
    | \b(?:key|org|proj|req|user|acct)[-_](?=[a-z]*\d)[a-z0-9]{12,}      # account and request ids
    | \b(?:AIza|AQ\.|ya29\.)[\w.*-]{6,}                                # Google's keys and tokens
    | \barn:[\w-]+:[^\s'"<>)\]]+ | \bA[KS]IA[A-Z0-9]{8,} | \bABSK[\w+/=*-]{6,} | \bbedrock-api-key-[\w+/=*-]{6,}  # AWS
    | (?<![\w.-])[\w.-]*[*•…]{3,}[\w*•….-]*                             # masked keys
    | \b(?=[a-z]*\d)(?=\d*[a-z])[a-z0-9]{24,}\b                         # long runs of letters and digits
    | (?<![\w.+-])[\w.+-]+@[\w-]+\.[\w.-]+                                        # e-mail addresses
    | (?<![\w.-])(?:[a-z0-9-]+\.)+(?:"""
    + _TLDS
    + r""")\b(?::\d{2,5})?(?:/[\w./%?=&-]*)?        # hosts
    | \blocalhost(?::\d{2,5})?
    | \b\d{1,3}(?:\.\d{1,3}){3}(?::\d{2,5})?\b                          # IPv4
    """,
    re.IGNORECASE | re.VERBOSE,
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]+")
_NO_CREDIT = "Your credit balance is too low"
_PARAM = re.compile(r"^[A-Za-z0-9_.\[\]-]{1,80}$")

# Words of an error object's `type` and `code`, first match wins, to the status the provider meant.
_MEANS = (
    (re.compile(r"rate_?limit|too_many_requests|insufficient_quota|quota_exceeded|resource_exhausted|throttl"), 429),
    (re.compile(r"authentication|invalid_api_key|unauthori[sz]ed|permission|forbidden"), 401),
    (re.compile(r"billing|payment"), 402),
    (re.compile(r"not_found"), 404),
    (re.compile(r"overloaded|server_error|api_error|internal|unavailable|timeout|upstream|provider"), 503),
    (
        re.compile(r"invalid|too_large|too_long|context_length|content_filter|content_policy|unsupported|bad_request"),
        400,
    ),
)


class UpstreamModelMissing(UpstreamFailed):
    """The provider does not know the model (404): another target may, this one will not. No fault of its health."""

    retryable = False
    counts: ClassVar[bool] = False


def by_status(status: int, headers: Mapping[str, str], body: bytes, *, byok: bool) -> ProviderError:
    """The error a non-2xx answer is (WIRE.md section 2). Header names are lower case."""
    if refuses_key(status, body):
        return _plain(401, byok=byok)
    if status == 400 and _lacks_credit(body):
        return _plain(402, byok=byok)
    if status in (400, 413, 422):
        return _rejected(status, parsed(body))
    if status in (408, 429) or status >= 500:
        waits = (retry_after(headers), _retry_delay(_error_of(parsed(body))))
        wait = max((one for one in waits if one is not None), default=None)
        if status == 429:
            return UpstreamRateLimited("The provider is limiting requests. Try again later.", retry_after=wait)
        return UpstreamFailed(f"The provider failed with status {status}.", retry_after=wait)
    return _plain(status, byok=byok)


def refuses_key(status: int, body: bytes) -> bool:
    """True for a 400 that means 401: LiteLLM without a database, which has nowhere to look an unknown key up, and
    Gemini, which calls an unknown or expired key an invalid argument."""
    if status != 400 or not any(word in body[:_BODY_CAP] for word in (b"no_db_connection", b"API_KEY_INVALID")):
        return False
    return _refuses_key(_error_of(parsed(body)))


def _refuses_key(error: Any) -> bool:
    if not isinstance(error, Mapping):
        return False
    return error.get("type") == "no_db_connection" or any(
        one.get("reason") == "API_KEY_INVALID" for one in _details(error)
    )


def _lacks_credit(body: bytes) -> bool:
    """True for a 400 that means 402: Anthropic calls a request without credit behind its key an invalid one."""
    error = _error_of(parsed(body)) if _NO_CREDIT.encode() in body[:_BODY_CAP] else None
    return isinstance(error, Mapping) and str(error.get("message")).startswith(_NO_CREDIT)


def _error_of(found: Any) -> Any:
    """The error object of an error body, in a list too (Gemini); None if it has none."""
    if isinstance(found, list):
        found = found[0] if found else None
    return found.get("error") if isinstance(found, Mapping) else None


def _details(error: Any) -> list[Mapping[str, Any]]:
    """Google's `details`, each said by its `@type` (google.rpc.ErrorInfo, RetryInfo, ...)."""
    details = error.get("details") if isinstance(error, Mapping) else None
    return [one for one in details if isinstance(one, Mapping)] if isinstance(details, list) else []


def _retry_delay(error: Any) -> float | None:
    """Seconds that Google's RetryInfo says to wait ("37.5s"); it sends no Retry-After."""
    for one in _details(error):
        if str(one.get("@type")).endswith("google.rpc.RetryInfo"):
            return _number(str(one.get("retryDelay")).removesuffix("s"))
    return None


def loaded(body: bytes) -> dict[str, Any]:
    """The object of a whole answer under 200. Raises UpstreamInvalid for anything else."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UpstreamInvalid("The provider's answer is not JSON.") from error
    if not isinstance(found, dict):
        raise UpstreamInvalid("The provider's answer is not an object.")
    return found


def answered(body: bytes, *, byok: bool) -> dict[str, Any]:
    """As `loaded`. Raises the error that it is, too."""
    found = loaded(body)
    if found.get("error"):
        raise in_band(found["error"], byok=byok)
    return found


def in_band(error: Any, *, byok: bool) -> ProviderError:
    """The error an error object under 200 is, in a stream or as the whole body. Unknown ones may fall back."""
    status = 401 if _refuses_key(error) else _status_of(error)
    if status in (400, 413, 422):
        return _rejected(status, {"error": error})
    if status == 429:
        return UpstreamRateLimited(
            "The provider is limiting requests. Try again later.", retry_after=_retry_delay(error)
        )
    if status in (401, 402, 403, 404):
        return _plain(status, byok=byok)
    return UpstreamFailed("The provider reported an error instead of an answer.")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait as the provider says: `retry-after-ms`, `Retry-After` in seconds or as a date; the longest.

    A date is measured against the response's own `Date`, which spares us the difference of two clocks.
    """
    waits = []
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        waits.append(milliseconds / 1000)
    said = headers.get("retry-after")
    seconds = _number(said)
    if seconds is not None:
        waits.append(seconds)
    elif said:
        until = _date(said)
        if until is not None:
            since = _date(headers.get("date", "")) or datetime.now(UTC)
            waits.append(max(0.0, (until - since).total_seconds()))
    return max(waits, default=None)


def sanitised(text: str) -> str:
    """Provider text that may be shown: one line, at most 300 characters, nothing that names a host, key or account."""
    text = _CONTROL.sub(" ", text[: 8 * _MESSAGE_CAP])
    text = " ".join(_UNSAFE.sub(_REMOVED, text).split())
    return text if len(text) <= _MESSAGE_CAP else text[: _MESSAGE_CAP - 1].rstrip() + "…"


def parsed(body: bytes) -> Any:
    """JSON of an error body; its text if it is none; None if there is nothing to read."""
    try:
        return orjson.loads(body[:_BODY_CAP])
    except orjson.JSONDecodeError:
        text = body[:_BODY_CAP].decode("utf-8", "replace").strip()
        return None if text.startswith("<") else text or None


def _rejected(status: int, found: Any) -> UpstreamRejected:
    message, param = _words(found)
    if message:
        return UpstreamRejected(f"The provider rejected the request: {sanitised(message)}", param=param)
    if status == 413:
        return UpstreamRejected("The provider rejected the request: it is too large.")
    return UpstreamRejected(f"The provider rejected the request with status {status} and no reason.")


def _plain(status: int, *, byok: bool) -> ProviderError:
    if status in (401, 402, 403):  # 402: the account behind the key has no credit
        if byok:
            return ByokRejected(
                "The provider refused your own stored key. Check that it is valid, allowed to use this model and has "
                "credit, or replace it.",
                invalid=status != 402,
            )
        return UpstreamAuthFailed("The provider refused the gateway's key. The operator has been told.")
    if status == 404:
        return UpstreamModelMissing("The provider does not know this model.")
    return UpstreamInvalid(f"The provider answered with an unexpected status, {status}.")


def _words(found: Any) -> tuple[str, str | None]:
    """The message and parameter of an error body, whichever of the vendors' shapes it has."""
    if isinstance(found, list):  # FastAPI's and Mistral's [{"loc": [...], "msg": ...}], Gemini's [{"error": ...}]
        entries = [one for one in found[:3] if isinstance(one, Mapping)]
        if entries and "msg" in entries[0]:
            return "; ".join(f"{_place(one.get('loc'))}{one.get('msg')}" for one in entries), None
        return _words(entries[0]) if entries else ("", None)
    if not isinstance(found, Mapping):
        return (found if isinstance(found, str) else ""), None
    param = found.get("param")
    kept = param if isinstance(param, str) and _PARAM.match(param) and not _UNSAFE.search(param) else None
    for key in ("message", "error", "detail", "errors", "msg", "error_msg"):
        value = found.get(key)
        if isinstance(value, str) and value.strip():
            return value, kept
        if isinstance(value, list | Mapping) and value:
            message, inner = _words(value)
            if message:
                return message, kept or inner
    return "", kept


def _place(loc: Any) -> str:
    return ".".join(str(one) for one in loc if one != "body") + ": " if isinstance(loc, list) else ""


def _status_of(error: Any) -> int:
    """What an in-band error means, as an HTTP status; 503 if it does not say."""
    if not isinstance(error, Mapping):
        return 503
    for key in ("code", "status", "status_code"):
        number = _number(str(error.get(key)))
        if number is not None and 400 <= number <= 599:
            return int(number)
    words = f"{error.get('type')} {error.get('code')} {error.get('status')}".lower()
    return next((status for pattern, status in _MEANS if pattern.search(words)), 503)


def _number(text: str | None) -> float | None:
    """A plain non-negative number; not nan, not inf, not 1e9."""
    if text is None or not re.fullmatch(r"\s*\d{1,12}(?:\.\d{1,9})?\s*", text, re.ASCII):
        return None
    return float(text)


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
