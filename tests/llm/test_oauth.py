"""A service account's key exchanged for a token: what is signed, what is believed, and how often it is asked for."""

import asyncio
import base64
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

import orjson
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from llm.calls import Call
from llm.engine import http, oauth
from llm.errors import ByokRejected, ProviderError, UpstreamAuthFailed, UpstreamFailed
from llm.fields import Secret
from tests.fakes import Behaviour, FakeProvider
from tests.llm.test_provider_registry import KEY, a_call

PRIVATE = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(key: Any = PRIVATE) -> str:
    encoding, no = serialization.Encoding.PEM, serialization.NoEncryption()
    return str(key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, no).decode())


ACCOUNT: dict[str, Any] = {
    "type": "service_account",
    "project_id": "acme-vertex-1",
    "private_key_id": "0123abcd",
    "private_key": pem(),
    "client_email": "gateway@acme-vertex-1.iam.gserviceaccount.com",
    "token_uri": "https://oauth2.googleapis.com/token",
}


def secret(**changes: Any) -> Secret:
    return Secret(orjson.dumps(ACCOUNT | changes, option=orjson.OPT_INDENT_2).decode())


def unpacked(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


@pytest.fixture(autouse=True)
def no_tokens() -> Iterator[None]:
    oauth.TOKENS.clear()
    yield
    oauth.TOKENS.clear()


@pytest.fixture
def issuer(fake: FakeProvider) -> str:
    """The token endpoint, as staff name it in a quirk."""
    return f"{fake.root_url}/token"


def a_vertex_call(token_uri: str, key: Secret, *, key_source: str = "platform") -> Call:
    call = a_call(dialect="google", auth_type="oauth", key_source=key_source, quirks={"token_uri": token_uri})
    credential = call.target.credential
    assert credential is not None
    return replace(call, target=replace(call.target, credential=replace(credential, secret=key)))


async def exchanged(*calls: Call, client: http.Client | None = None) -> list[Any]:
    """What becomes of calls made at once: each with its token, or the error."""
    mine = client or http.Client()
    try:
        return await asyncio.gather(*(oauth.with_token(mine, call) for call in calls), return_exceptions=True)
    finally:
        if client is None:
            await mine.aclose()


def token_of(call: Any) -> str:
    assert isinstance(call, Call), call
    assert call.target.credential is not None
    return call.target.credential.secret.reveal()


# What is signed


def test_the_claim_is_signed_by_the_account_for_an_hour_and_for_the_cloud() -> None:
    asked = oauth.request(oauth.account(secret()), now=1_800_000_000.9)
    assert asked.url == "https://oauth2.googleapis.com/token"
    form = parse_qs(asked.body.decode())
    assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
    header, claims, signature = form["assertion"][0].split(".")
    assert orjson.loads(unpacked(header)) == {"alg": "RS256", "typ": "JWT", "kid": "0123abcd"}
    assert orjson.loads(unpacked(claims)) == {
        "iss": "gateway@acme-vertex-1.iam.gserviceaccount.com",
        "scope": "https://www.googleapis.com/auth/cloud-platform",
        "aud": "https://oauth2.googleapis.com/token",
        "iat": 1_800_000_000,
        "exp": 1_800_003_600,
    }
    signed = f"{header}.{claims}".encode()
    PRIVATE.public_key().verify(unpacked(signature), signed, padding.PKCS1v15(), hashes.SHA256())


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"type": "authorized_user"}', '{"type": "external_account"}',
     '{"type": "service_account", "client_email": "a"}', '{"type": "service_account", "private_key": "a"}'],
)  # fmt: skip
def test_what_is_no_service_account_is_told_so(text: str) -> None:
    with pytest.raises(oauth.NotGranted):
        oauth.account(Secret(text))


@pytest.mark.parametrize(
    "uri",
    ["http://oauth2.googleapis.com/token", "https://oauth2.googleapis.com.evil.example/token",
     "https://evil.example/token", "https://oauth2.googleapis.com@evil.example/token", "http://169.254.169.254/",
     "https://oauth2.googleapis.com/token?x=1", "file:///etc/passwd", 5],
)  # fmt: skip
def test_an_account_cannot_send_the_gateway_anywhere_but_to_google(uri: Any) -> None:
    with pytest.raises(oauth.NotGranted, match="not Google's"):
        oauth.account(secret(token_uri=uri))
    assert oauth.account(secret(token_uri=uri), token_uri="http://staff.internal/token").token_uri.startswith(
        "http://s"
    )


@pytest.mark.parametrize(
    "key",
    ["no key", pem(ec.generate_private_key(ec.SECP256R1())),
     "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "\ud800"],
    ids=["words", "elliptic", "empty", "surrogate"],
)  # fmt: skip
def test_a_key_that_cannot_sign_is_told_so_without_being_quoted(key: str) -> None:
    of = replace(oauth.account(secret()), key=key)
    with pytest.raises(oauth.NotGranted) as caught:
        oauth.request(of, now=0)
    assert key not in str(caught.value)


def test_neither_key_nor_token_shows_in_any_representation() -> None:
    of = oauth.account(secret())
    grant = oauth.granted(200, b'{"access_token":"ya29.canary","expires_in":3599}', of, now=0)
    assert "BEGIN" not in repr(of)
    assert "canary" not in repr(grant)
    assert "assertion" not in repr(oauth.request(of, now=0))


# What is believed


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, b'{"error":"invalid_grant","error_description":"Invalid JWT Signature."}', oauth.NotGranted),
        (401, b'{"error":"invalid_client"}', oauth.NotGranted),
        (403, b"", oauth.NotGranted),
        (429, b"", ProviderError),
        (500, b"", ProviderError),
        (302, b"", ProviderError),
        (200, b"", ProviderError),
        (200, b"[]", ProviderError),
        (200, b'{"access_token":5}', ProviderError),
        (200, b'{"access_token":"a b"}', ProviderError),
        (200, b'{"access_token":"a\\r\\nx: y"}', ProviderError),
    ],
)
def test_an_answer_without_a_token_is_an_error(status: int, body: bytes, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        oauth.granted(status, body, oauth.account(secret()), now=0)


@pytest.mark.parametrize(
    ("lasts", "until"), [("3599", 3539), ("999999", 3540), ('"3599"', -60), ("null", -60), ("30", -30), ("-5", -65)]
)
def test_a_token_is_used_until_a_minute_before_it_expires(lasts: str, until: float) -> None:
    body = b'{"access_token":"t","expires_in":%s}' % lasts.encode()
    assert oauth.granted(200, body, oauth.account(secret()), now=0).until == until


# How it is asked for


async def test_many_requests_at_once_ask_once_and_later_ones_not_at_all(fake: FakeProvider, issuer: str) -> None:
    fake.script("/token", Behaviour(delay_first_s=0.05))
    call = a_vertex_call(issuer, secret())
    tokens = {token_of(one) for one in await exchanged(*[call] * 20)}
    assert tokens == {token_of(one) for one in await exchanged(call)} == {"ya29.fake-000001"}
    assert [request.path for request in fake.requests] == ["/token"]


async def test_the_call_carries_the_token_and_the_accounts_project(issuer: str) -> None:
    given = a_vertex_call(issuer, secret())
    [call] = await exchanged(given)
    assert (token_of(call), call.target.credential.project) == ("ya29.fake-000001", "acme-vertex-1")
    assert (call.body, call.target.model, call.request_id) == (given.body, given.target.model, given.request_id)
    assert given.target.credential is not None
    assert given.target.credential.secret.reveal().startswith("{")


async def test_a_token_as_the_key_and_other_auth_types_are_left_as_they_are(fake: FakeProvider, issuer: str) -> None:
    given = [a_vertex_call(issuer, Secret("ya29.given")), a_call(dialect="google", auth_type="api_key")]
    assert await exchanged(*given) == given
    assert fake.requests == []


async def test_two_accounts_have_two_tokens(issuer: str) -> None:
    both = await exchanged(a_vertex_call(issuer, secret()), a_vertex_call(issuer, secret(project_id="other-2")))
    assert len({token_of(one) for one in both}) == 2


async def test_who_leaves_does_not_take_the_token_from_the_others(fake: FakeProvider, issuer: str) -> None:
    fake.script("/token", Behaviour(delay_first_s=0.1))
    client, call = http.Client(), a_vertex_call(issuer, secret())
    leaving = asyncio.ensure_future(oauth.with_token(client, call))
    staying = asyncio.ensure_future(oauth.with_token(client, call))
    await asyncio.sleep(0.03)
    leaving.cancel()
    assert token_of(await staying) == "ya29.fake-000001"
    await client.aclose()
    assert len(fake.requests) == 1


async def test_an_expired_token_and_one_that_the_provider_refused_are_asked_for_anew(
    fake: FakeProvider, issuer: str
) -> None:
    fake.once("/token", Behaviour(extra_fields={"expires_in": 61}))
    call = a_vertex_call(issuer, secret())
    [first] = await exchanged(call)
    await asyncio.sleep(1.05)
    [second] = await exchanged(call)
    oauth.refused(call)
    [third] = await exchanged(call)
    assert len({token_of(one) for one in (first, second, third)}) == len(fake.requests) == 3


@pytest.mark.parametrize(("key_source", "kind"), [("platform", UpstreamAuthFailed), ("byok", ByokRejected)])
async def test_a_refused_account_is_a_refused_key_and_is_not_remembered(
    fake: FakeProvider, issuer: str, key_source: str, kind: type[ProviderError]
) -> None:
    words = {"error": "invalid_grant", "error_description": "Account canary-deleted"}
    fake.once("/token", Behaviour(status=400, error_body=words))
    call = a_vertex_call(issuer, secret(), key_source=key_source)
    [refusal] = await exchanged(call)
    assert type(refusal) is kind
    assert "canary" not in refusal.message
    assert token_of((await exchanged(call))[0]) == "ya29.fake-000002"


@pytest.mark.parametrize(
    "behaviour",
    [Behaviour(status=500), Behaviour(status=302), Behaviour(cut_after_bytes=30), Behaviour(bad_json=True),
     Behaviour(gzip=True), Behaviour(giant_line_bytes=70_000), None],
    ids=["500", "redirect", "cut", "half", "gzip", "giant", "nobody"],
)  # fmt: skip
async def test_an_issuer_that_fails_is_a_provider_that_fails(
    fake: FakeProvider, issuer: str, behaviour: Behaviour | None
) -> None:
    if behaviour is None:
        fake.stop()
    else:
        fake.script("/token", behaviour)
    [failure] = await exchanged(a_vertex_call(issuer, secret()))
    assert isinstance(failure, ProviderError)
    assert failure.code in {"upstream_error", "upstream_invalid_response"}
    assert failure.fallback


async def test_an_issuer_that_says_nothing_is_given_up(
    fake: FakeProvider, issuer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oauth, "_TIMEOUT_S", 0.1)
    fake.script("/token", Behaviour(delay_first_s=5))
    started = time.monotonic()
    [failure] = await exchanged(a_vertex_call(issuer, secret()))
    assert failure.code == "upstream_timeout"
    assert time.monotonic() - started < 2


def test_threads_and_jobs_share_the_tokens(fake: FakeProvider, issuer: str) -> None:
    first = oauth.TOKENS.get_now(secret(), token_uri=issuer)
    [call] = asyncio.run(exchanged(a_vertex_call(issuer, secret())))
    assert first.token.reveal() == token_of(call) == oauth.TOKENS.get_now(secret(), token_uri=issuer).token.reveal()
    assert len(fake.requests) == 1
    fake.script("/token", Behaviour(status=500))
    with pytest.raises(UpstreamFailed):
        oauth.TOKENS.get_now(secret(project_id="other"), token_uri=issuer)


def test_too_many_tokens_push_out_the_oldest(issuer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oauth, "_MAX_KEPT", 2)
    keys = [secret(project_id=f"p-{number}") for number in range(3)]
    tokens = [oauth.TOKENS.get_now(key, token_uri=issuer).token.reveal() for key in keys]
    assert oauth.TOKENS.get_now(keys[2], token_uri=issuer).token.reveal() == tokens[2]
    assert oauth.TOKENS.get_now(keys[0], token_uri=issuer).token.reveal() not in tokens
    assert KEY not in tokens
