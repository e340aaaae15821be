"""A Google service account's key exchanged for the access token that requests carry (RFC 7523, JWT bearer grant).

A provider with the auth type `oauth` has as its key either the JSON of a service account, or an access token, which is
used as it is. Tokens are kept in memory until a minute before they expire, and asked for once however many requests
wait. Adapters see the token only.

The JSON is a tenant's to write, so where it says tokens come from is believed of Google's own addresses only; staff may
name another in the provider's quirk `token_uri`. Source of the exchange: developers.google.com/identity/protocols/
oauth2/service-account.
"""

import asyncio
import base64
import hashlib
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from llm.calls import Call, Upstream
from llm.engine import http
from llm.errors import UpstreamFailed, UpstreamRateLimited, UpstreamTimeout
from llm.fields import Secret
from llm.providers import failures

TOKEN_URI = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
_TOKEN_URIS = frozenset(
    {TOKEN_URI, "https://accounts.google.com/o/oauth2/token", "https://www.googleapis.com/oauth2/v4/token"}
)
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_ASSERTION_S = 3600  # how long what we sign is good for: the most that Google takes
_LONGEST_S = 3600  # a token is not believed to last longer
_EARLY_S = 60
_TIMEOUT_S = 10.0
_MAX_BYTES = 64 * 1024
_MAX_KEPT = 1_000
_KEY_BITS = (1024, 4096)  # a larger one would cost too much to sign with
_HEADER_SAFE = re.compile(r"[\x21-\x7e]{1,8192}")


class NotGranted(Exception):
    """There is no token for this key: it is no service account's, or Google refuses it. Never quotes it."""


@dataclass(frozen=True, slots=True)
class Account:
    """What a service account's JSON says."""

    email: str
    project: str
    token_uri: str
    key_id: str
    key: str = field(repr=False)  # PEM


@dataclass(frozen=True, slots=True)
class Grant:
    token: Secret = field(repr=False)
    project: str
    until: float  # time.monotonic() from which it is not used any more


# --- The exchange, without I/O ----------------------------------------------------------------------------------------


def is_account(secret: Secret) -> bool:
    """Whether a key has to be exchanged: it is a JSON document. Anything else is a token."""
    return secret.reveal().lstrip().startswith("{")


def account(secret: Secret, *, token_uri: str = "") -> Account:
    """Raises NotGranted, in words, for what is no service account's JSON. `token_uri` beats what it says."""
    try:
        found = orjson.loads(secret.reveal())
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict) or found.get("type") != "service_account":
        raise NotGranted("It is no service account's key: enter the whole JSON file, or an access token.")
    for name in ("client_email", "private_key"):
        if not isinstance(found.get(name), str) or not found[name]:
            raise NotGranted(f"The service account's JSON has no {name}. Was the whole file copied?")
    said = token_uri or found.get("token_uri") or TOKEN_URI
    if said != token_uri and said not in _TOKEN_URIS:
        raise NotGranted("The service account's JSON wants its tokens from an address that is not Google's.")
    project, key_id = found.get("project_id"), found.get("private_key_id")
    return Account(
        email=found["client_email"],
        project=project if isinstance(project, str) else "",
        token_uri=said,
        key_id=key_id if isinstance(key_id, str) else "",
        key=found["private_key"],
    )


def request(of: Account, *, now: float) -> Upstream:
    """What is posted to the token endpoint: a claim that the account's key has signed. `now` in Unix seconds.

    Raises NotGranted for a key that cannot sign. Costs a few milliseconds of CPU.
    """
    claims = {"iss": of.email, "scope": _SCOPE, "aud": of.token_uri, "iat": int(now), "exp": int(now) + _ASSERTION_S}
    header = {"alg": "RS256", "typ": "JWT"} | ({"kid": of.key_id} if of.key_id else {})
    signed = b".".join(_base64url(orjson.dumps(part)) for part in (header, claims))
    signature = _private_key(of).sign(signed, padding.PKCS1v15(), hashes.SHA256())
    assertion = (signed + b"." + _base64url(signature)).decode("ascii")
    return Upstream(
        url=of.token_uri,
        headers={"content-type": "application/x-www-form-urlencoded", "accept": "application/json"},
        body=urlencode({"grant_type": _GRANT_TYPE, "assertion": assertion}).encode("ascii"),
    )


def granted(status: int, body: bytes, of: Account, *, now: float) -> Grant:
    """The token in an answer. `now`: time.monotonic(). Raises NotGranted for a refusal, ProviderError otherwise."""
    if status in (400, 401, 403):
        raise NotGranted("Google refuses this service account's key.")
    if status == 429:
        raise UpstreamRateLimited("The provider is limiting requests. Try again later.")
    if status != 200:
        raise UpstreamFailed(f"The provider's token endpoint failed with status {status}.")
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = None
    token = found.get("access_token") if isinstance(found, dict) else None
    if not isinstance(token, str) or not _HEADER_SAFE.fullmatch(token):
        raise UpstreamFailed("The provider's token endpoint gave no token.")
    lasts = found.get("expires_in")
    lasts_s = min(lasts, _LONGEST_S) if type(lasts) is int else 0
    return Grant(token=Secret(token), project=of.project, until=now + lasts_s - _EARLY_S)


def _private_key(of: Account) -> rsa.RSAPrivateKey:
    try:
        found = serialization.load_pem_private_key(of.key.encode("utf-8", "replace"), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise NotGranted("The service account's private_key cannot be read. Was the whole file copied?") from error
    if not isinstance(found, rsa.RSAPrivateKey) or not _KEY_BITS[0] <= found.key_size <= _KEY_BITS[1]:
        raise NotGranted("The service account's private_key is not an RSA key as Google makes them.")
    return found


def _base64url(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


# --- Tokens kept ------------------------------------------------------------------------------------------------------


class Tokens:
    """One process's tokens, by key; the oldest is forgotten when there are too many."""

    def __init__(self) -> None:
        self._kept: dict[bytes, Grant] = {}
        self._asked: dict[bytes, asyncio.Task[Grant]] = {}

    async def get(self, client: http.Client, secret: Secret, *, token_uri: str) -> Grant:
        """The token for a service account's key. Raises NotGranted, ProviderError.

        The exchange is a task of its own: who waits for it may leave without taking it from the others.
        """
        name = _name(secret, token_uri)
        kept = self._fresh(name)
        if kept is not None:
            return kept
        task = self._asked.get(name)
        if task is None:
            task = asyncio.get_running_loop().create_task(_exchange(client, secret, token_uri))
            self._asked[name] = task
            task.add_done_callback(lambda done: self._answered(name, done))
        return await asyncio.shield(task)

    def get_now(self, secret: Secret, *, token_uri: str) -> Grant:
        """The same for threads and jobs. Raises NotGranted, ProviderError, http.NetworkError."""
        name = _name(secret, token_uri)
        kept = self._fresh(name)
        if kept is not None:
            return kept
        of = account(secret, token_uri=token_uri)
        asking = request(of, now=time.time())
        with (
            http.sync_client() as client,
            client.stream("POST", asking.url, headers=asking.headers, content=asking.body) as response,
        ):
            body = http.capped(response, _MAX_BYTES, within_s=_TIMEOUT_S) or b""
            return self._keep(name, granted(response.status_code, body, of, now=time.monotonic()))

    def forget(self, secret: Secret, *, token_uri: str) -> None:
        """The provider refused the token: the next request asks for another."""
        self._kept.pop(_name(secret, token_uri), None)

    def clear(self) -> None:
        self._kept.clear()
        self._asked.clear()

    def _fresh(self, name: bytes) -> Grant | None:
        kept = self._kept.get(name)
        return kept if kept is not None and time.monotonic() < kept.until else None

    def _keep(self, name: bytes, grant: Grant) -> Grant:
        self._kept.pop(name, None)
        self._kept[name] = grant
        while len(self._kept) > _MAX_KEPT:
            del self._kept[next(iter(self._kept))]
        return grant

    def _answered(self, name: bytes, task: "asyncio.Task[Grant]") -> None:
        if self._asked.get(name) is task:
            del self._asked[name]
        if not task.cancelled() and task.exception() is None:
            self._keep(name, task.result())


TOKENS = Tokens()


async def _exchange(client: http.Client, secret: Secret, token_uri: str) -> Grant:
    of = account(secret, token_uri=token_uri)
    asking = await asyncio.get_running_loop().run_in_executor(None, lambda: request(of, now=time.time()))
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            answer = await client.send(asking, _nothing)
            try:
                body = await answer.read(_MAX_BYTES)
            finally:
                await answer.close()
    except TimeoutError as error:
        raise UpstreamTimeout("The provider's token endpoint did not answer in time.") from error
    return granted(answer.status, body, of, now=time.monotonic())


def _nothing() -> None:
    """The token endpoint has a connection: the provider itself has seen nothing yet."""


def _name(secret: Secret, token_uri: str) -> bytes:
    return hashlib.blake2b(f"{token_uri} {secret.reveal()}".encode("utf-8", "surrogatepass"), digest_size=32).digest()


# --- Calls ------------------------------------------------------------------------------------------------------------


def token_uri(quirks: Mapping[str, Any]) -> str:
    """The quirk of that name, staff's to set; "" if there is none."""
    said = quirks.get("token_uri")
    return said if isinstance(said, str) else ""


async def with_token(client: http.Client, call: Call) -> Call:
    """The call with the token in the place of a service account's key; any other as it is. Raises ProviderError."""
    provider, credential = call.target.model.provider, call.target.credential
    if provider.auth_type != "oauth" or credential is None or not is_account(credential.secret):
        return call
    try:
        grant = await TOKENS.get(client, credential.secret, token_uri=token_uri(provider.quirks))
    except NotGranted as error:
        raise failures.by_status(401, {}, b"", byok=call.target.key_source == "byok") from error
    signed = replace(credential, secret=grant.token, project=grant.project)
    return replace(call, target=replace(call.target, credential=signed))


def refused(call: Call) -> None:
    """The provider said 401: a token that was kept may have been taken back."""
    provider, credential = call.target.model.provider, call.target.credential
    if provider.auth_type == "oauth" and credential is not None:
        TOKENS.forget(credential.secret, token_uri=token_uri(provider.quirks))
