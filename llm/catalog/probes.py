"""Is a provider up, and does it take our key? Asked with the cheapest true call it has, its list of models.

`ask` and `objection` also serve who wants to read that list (model_list.py).

No key and no host ever gets into what is stored or shown: the words come from here, not from exceptions.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from django.db import transaction

from llm import types
from llm.catalog import addresses, credentials
from llm.choices import AuthType, Dialect, HealthStatus
from llm.engine import http, oauth
from llm.errors import ProviderError
from llm.fields import CannotDecrypt, Secret
from llm.models import LLMProvider, ProviderHealthCheck
from llm.providers import failures, registry

TIMEOUT_S = 10.0
WHOLE_S = 30.0
SLOW_MS = 2000
_REFUSED = (401, 403)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back: a status code, or None and why there was none. `body` is what was asked for of a good answer."""

    status_code: int | None
    response_time_ms: int | None
    problem: str = ""
    refused: bool = False
    body: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    status: str
    error: str = ""


def in_words(check: ProviderHealthCheck | None) -> str:
    """What a probe found, as a sentence; None is a provider that has not been asked yet."""
    if check is None:
        return "It has not been asked yet. POST .../test asks it now, a job does so every few minutes."
    return check.error or f"It answered in {check.response_time_ms} ms."


def probe(*, provider: LLMProvider, now: datetime) -> ProviderHealthCheck:
    """Ask the provider with the platform's key and keep the result, in the provider's row too. Never switches it off.

    healthy: a good answer within two seconds. degraded: slow, a client error, or the first failure. down: the second
    failure in a row (5xx, unreachable). unknown: it cannot be asked, or nobody has a key to ask with.
    """
    answer, key_name = ask_with_platform_key(provider)
    verdict = _judge(provider, answer, key_name=key_name)
    with transaction.atomic():
        check = ProviderHealthCheck.objects.create(
            provider=provider,
            status=verdict.status,
            response_time_ms=answer.response_time_ms,
            status_code=answer.status_code,
            error=verdict.error,
            checked_at=now,
        )
        # An update, not save(): a probe must not write back what staff changed meanwhile.
        LLMProvider.objects.filter(pk=provider.pk).update(
            health_status=verdict.status,
            health_checked_at=now,
            health_response_time_ms=answer.response_time_ms,
        )
    return check


class Says(StrEnum):
    """What a provider says of a key."""

    YES = "yes"
    NO = "no"  # 401 or 403, or what some vendors say instead
    LATER = "later"  # unreachable, limiting requests or failing: asking again may help
    NOTHING = "nothing"  # it cannot be asked


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """What a provider says of a key, and what is wrong in words; empty for YES."""

    says: Says
    error: str = ""


def opinion(*, provider: LLMProvider, secret: Secret) -> Opinion:
    """Ask the provider whether it takes this key, by the cheapest true call it has."""
    answer = ask(provider, secret)
    code, error = answer.status_code, objection(answer)
    if not error:
        return Opinion(says=Says.YES)
    if answer.refused:
        return Opinion(says=Says.NO, error=error)
    away = answer.problem == UNREACHABLE if code is None else code == 429 or code >= 500
    return Opinion(says=Says.LATER if away else Says.NOTHING, error=error)


def ask_with_platform_key(provider: LLMProvider, *, path: str = "", most: int = 0) -> tuple[Answer, str]:
    """The answer, as `ask` gives it, and what the key was called that was sent ("": none was)."""
    try:
        secret, key_name = credentials.platform_key(provider)
    except CannotDecrypt:
        problem = "The stored key cannot be read: is its ENCRYPTION_KEY missing? Enter it again."
        return Answer(status_code=None, response_time_ms=None, problem=problem), ""
    return ask(provider, secret, path=path, most=most), key_name


def ask(provider: LLMProvider, secret: Secret | None, *, path: str = "", most: int = 0) -> Answer:
    """One GET: of the list of models, or of a path below the base URL. A good answer is read up to `most` bytes; a
    larger or endless one is a problem. With 0 it is not read at all.

    A service account's key is exchanged for a token first; one that gets none is refused.
    """
    if provider.dialect == Dialect.SANDBOX:
        return Answer(status_code=200, response_time_ms=0)
    try:
        adapter = registry.adapter(provider.dialect)
    except LookupError:
        return Answer(status_code=None, response_time_ms=None, problem=UNSUPPORTED)
    described = _described(provider)
    if "{" in described.base_url:
        return Answer(status_code=None, response_time_ms=None, problem=PLACEHOLDER)
    started = time.monotonic()
    try:
        asked = adapter.models_request(described, _usable(described, secret), now=datetime.now(UTC), path=path)
        # Streamed, to read no more than was asked for: whoever is at that address could send a body without end.
        with (
            http.sync_client() as client,
            client.stream("GET", asked.url, headers=asked.headers, timeout=TIMEOUT_S) as response,
        ):
            elapsed = round((time.monotonic() - started) * 1000)
            code = response.status_code
            wanted = most if code < 300 else http.MAX_ERROR_BYTES if code == 400 else 0
            body = http.capped(response, wanted, within_s=WHOLE_S) if wanted else b""
    except (*http.NetworkError, ProviderError):  # the provider, or who gives out its tokens
        return Answer(status_code=None, response_time_ms=None, problem=UNREACHABLE)
    except oauth.NotGranted as error:
        return Answer(status_code=None, response_time_ms=None, problem=str(error), refused=True)
    except ValueError:  # a URL that is none, a key that no header can carry
        return Answer(status_code=None, response_time_ms=None, problem=MALFORMED)
    if body is None and code < 300:
        return Answer(status_code=None, response_time_ms=elapsed, problem=TOO_LARGE)
    refused = code in _REFUSED or failures.refuses_key(code, body or b"")
    return Answer(status_code=code, response_time_ms=elapsed, refused=refused, body=body or b"")


def _usable(provider: types.Provider, secret: Secret | None) -> Secret | None:
    """The key as it travels. Raises oauth.NotGranted, ProviderError, http.NetworkError."""
    if secret is None or provider.auth_type != AuthType.OAUTH or not oauth.is_account(secret):
        return secret
    return oauth.TOKENS.get_now(secret, token_uri=oauth.token_uri(provider.quirks)).token


UNSUPPORTED = "Its dialect is not built in yet, so its models are not routed to."
PLACEHOLDER = "Its base URL still has a placeholder in braces. Put in your own value, there or as a quirk of that name."
MALFORMED = "Its base URL or the key is malformed. Enter it again."
TOO_LARGE = "Its answer is larger or slower than is accepted."
UNREACHABLE = "It could not be reached in time. Is the base URL right, and is it up?"


def _described(provider: LLMProvider) -> types.Provider:
    """The row as adapters take it."""
    return types.Provider(
        id=provider.pk,
        slug=provider.slug,
        name=provider.name,
        base_url=addresses.filled(provider.base_url, provider.quirks),
        dialect=provider.dialect,
        auth_type=provider.auth_type,
        quirks=provider.quirks,
    )


def _judge(provider: LLMProvider, answer: Answer, *, key_name: str) -> Verdict:
    code = answer.status_code
    if code is None and answer.problem != UNREACHABLE:
        status = HealthStatus.DEGRADED if answer.refused else HealthStatus.UNKNOWN
        return Verdict(status=status, error=answer.problem)
    if code is None or code >= 500:
        status = HealthStatus.DOWN if _failed_before(provider) else HealthStatus.DEGRADED
        return Verdict(status=status, error=answer.problem or f"It answered HTTP {code}: the fault is on its side.")
    if answer.refused and not key_name:
        error = "It answers, but there is no platform key to ask with. Add one, or set its environment variable."
        return Verdict(status=HealthStatus.UNKNOWN, error=error)
    error = objection(answer, key_name=key_name)
    if error:
        return Verdict(status=HealthStatus.DEGRADED, error=error)
    if (answer.response_time_ms or 0) >= SLOW_MS:
        return Verdict(status=HealthStatus.DEGRADED, error=f"It took {answer.response_time_ms} ms to answer.")
    return Verdict(status=HealthStatus.HEALTHY)


def objection(answer: Answer, *, key_name: str = "this key") -> str:
    """What is wrong with an answer, in words; empty for a good one."""
    code = answer.status_code
    if code is None:
        return answer.problem
    if code < 300:
        return ""
    if answer.refused:
        return f"It refused {key_name} (HTTP {code}). Is the key right, in force, and allowed to list models?"
    if code == 429:
        return "It is limiting us or the account has no credit left (HTTP 429)."
    if code in (404, 405):
        return f"There is no list of models at its base URL (HTTP {code}). Is the base URL right?"
    if code < 400:
        return f"It redirects elsewhere (HTTP {code}). Set the base URL to where it leads."
    return f"It answered HTTP {code}."


def _failed_before(provider: LLMProvider) -> bool:
    """True if the last probe failed too: one lost packet does not take a provider out of routing."""
    last = ProviderHealthCheck.objects.filter(provider=provider).order_by("-id").first()
    if last is None or last.status not in (HealthStatus.DEGRADED, HealthStatus.DOWN):
        return False
    return last.status_code is None or last.status_code >= 500
