"""AWS Signature Version 4: a key, a request and a moment in, headers out. Pure: the clock is the caller's.

Source: docs.aws.amazon.com/IAM/latest/UserGuide, "Create a signed AWS API request". AWS takes a signature for five
minutes around its moment, so that a request is signed when it is sent and never kept.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

import orjson

_ALGORITHM = "AWS4-HMAC-SHA256"
_ACCESS_KEY_ID = re.compile(r"[A-Za-z0-9_]{4,128}")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """An access key, and the session token of one that is temporary."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is signed. The URL as it goes out, percent-encoded, without dots in its path."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


def key_of(text: str) -> Key | None:
    """The access key in a stored secret: "ID:SECRET", "ID:SECRET:TOKEN", or a JSON object as the AWS tools print it
    (`AccessKeyId`, `access_key_id` or `aws_access_key_id`, and so on). None if it is neither: then it is an API key,
    which holds no colon. Raises ValueError for an access key that is incomplete.
    """
    if text.startswith("{"):
        found = _named(text)
    elif ":" in text:
        found = dict(zip(("accesskeyid", "secretaccesskey", "sessiontoken"), text.split(":", 2), strict=False))
    else:
        return None
    known, secret = found.get("accesskeyid", "").strip(), found.get("secretaccesskey", "").strip()
    if not _ACCESS_KEY_ID.fullmatch(known) or not secret:
        raise ValueError("The AWS key is incomplete.")
    return Key(access_key_id=known, secret_access_key=secret, session_token=found.get("sessiontoken", "").strip())


def _named(text: str) -> dict[str, str]:
    found: Any = orjson.loads(text)  # its error is a ValueError
    if not isinstance(found, dict):
        raise ValueError("The AWS key is no JSON object.")
    plain = {name.lower().replace("_", "").removeprefix("aws"): value for name, value in found.items()}
    return {name: value for name, value in plain.items() if isinstance(value, str)}


def signed(request: Request, key: Key, *, region: str, service: str, now: datetime) -> dict[str, str]:
    """The request's headers (lower case) with those that prove who sends it. `host` is signed, and left to the client
    that sends it."""
    stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    headers = {name.lower(): " ".join(value.split()) for name, value in request.headers.items()}
    headers["x-amz-date"] = stamp
    if key.session_token:
        headers["x-amz-security-token"] = key.session_token
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    names, canonical = _canonical(request, headers)
    to_sign = "\n".join((_ALGORITHM, stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    signing = b"AWS4" + key.secret_access_key.encode()
    for part in (stamp[:8], region, service, "aws4_request"):
        signing = hmac.digest(signing, part.encode(), "sha256")
    signature = hmac.digest(signing, to_sign.encode(), "sha256").hex()
    headers["authorization"] = (
        f"{_ALGORITHM} Credential={key.access_key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return headers


def _canonical(request: Request, headers: Mapping[str, str]) -> tuple[str, str]:
    """(names of the signed headers, the canonical request). The path is encoded once more, as AWS wants it of every
    service but S3; a query is taken as it is encoded, in order."""
    parts = urlsplit(request.url)
    host = parts.hostname or ""
    if parts.port is not None and parts.port != _DEFAULT_PORTS.get(parts.scheme):
        host = f"{host}:{parts.port}"
    every = sorted({**headers, "host": host}.items())
    names = ";".join(name for name, _ in every)
    query = "&".join(sorted(one if "=" in one else f"{one}=" for one in parts.query.split("&") if one))
    lines = [request.method, quote(parts.path or "/", safe="/~"), query]
    lines += [f"{name}:{value}" for name, value in every]
    return names, "\n".join([*lines, "", names, hashlib.sha256(request.body).hexdigest()])
