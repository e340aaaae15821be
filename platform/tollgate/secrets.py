"""The three secrets Tollgate itself needs: read, judged, or made once and kept.

- SECRET_KEY signs sessions and CSRF tokens.
- ENCRYPTION_KEY encrypts provider keys at rest: a comma list of base64 32-byte keys, the first encrypts, all decrypt.
- KEY_PEPPER hashes platform API keys: a comma list of `id:base64`, the first signs, all verify.

Production refuses to start on a missing or weak one. Elsewhere a missing one is made once and kept in
`TOLLGATE_DATA_DIR/secrets.json` (mode 0600), whatever the database.
"""

import base64
import binascii
import fcntl
import json
import math
import os
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

FILE_NAME = "secrets.json"
KEY_BYTES = 32
_MIN_SECRET_KEY_CHARS = 50  # what Django's own deployment check asks for
_MIN_SECRET_KEY_BITS = 128
_MIN_DISTINCT_BYTES = 16  # 32 random bytes have about 30; fewer than 16 never happens by chance
_MIN_TOKEN_CHARS = 16
_PLACEHOLDERS = ("changeme", "changethis", "replaceme", "example", "insecure", "password", "default", "yoursecret")

COMMANDS: Mapping[str, str] = {
    "SECRET_KEY": 'python3 -c "import secrets; print(secrets.token_urlsafe(64))"',
    "ENCRYPTION_KEY": 'python3 -c "import base64, os; print(base64.b64encode(os.urandom(32)).decode())"',
    "KEY_PEPPER": "python3 -c \"import base64, os; print('1:' + base64.b64encode(os.urandom(32)).decode())\"",
    "METRICS_TOKEN": 'python3 -c "import secrets; print(secrets.token_urlsafe(32))"',
}


@dataclass(frozen=True)
class Secrets:
    """What the settings need, parsed. Never printed: `repr` shows nothing."""

    secret_key: str = field(repr=False)
    encryption_keys: tuple[bytes, ...] = field(repr=False)
    peppers: Mapping[str, bytes] = field(repr=False)


def load(given: Mapping[str, str], *, folder: Path, production: bool) -> Secrets:
    """The secrets from `given` (name to value, empty for missing), the missing ones from the file in `folder`.

    Raises ImproperlyConfigured naming the variable and the command that makes a good one.
    """
    values = {name: given.get(name, "") for name in ("SECRET_KEY", "ENCRYPTION_KEY", "KEY_PEPPER")}
    missing = [name for name, value in values.items() if not value]
    if missing and production:
        raise _refusal(missing[0], "is not set")
    if missing:
        values |= kept(missing, folder=folder)
    found = Secrets(
        secret_key=values["SECRET_KEY"],
        encryption_keys=parse_encryption_keys(values["ENCRYPTION_KEY"]),
        peppers=parse_peppers(values["KEY_PEPPER"]),
    )
    if production:
        refuse_weak(found)
    return found


def parse_encryption_keys(value: str) -> tuple[bytes, ...]:
    """The keys of a comma list, first to encrypt. Raises ImproperlyConfigured."""
    keys = tuple(_decode("ENCRYPTION_KEY", item.strip()) for item in value.split(",") if item.strip())
    if not keys:
        raise _refusal("ENCRYPTION_KEY", "holds no key")
    if len(set(keys)) != len(keys):
        raise _refusal("ENCRYPTION_KEY", "holds the same key twice")
    return keys


def parse_peppers(value: str) -> dict[str, bytes]:
    """Pepper id to pepper, in the order given: the first signs. Raises ImproperlyConfigured."""
    peppers: dict[str, bytes] = {}
    for item in (part.strip() for part in value.split(",")):
        if not item:
            continue
        name, colon, encoded = item.partition(":")
        if not colon or not name.isascii() or not name.isalnum() or len(name) > 16:
            raise _refusal("KEY_PEPPER", "is not a comma list of id:base64 (an id is 1 to 16 letters or digits)")
        if name in peppers:
            raise _refusal("KEY_PEPPER", f"holds the id {name!r} twice")
        peppers[name] = _decode("KEY_PEPPER", encoded)
    if not peppers:
        raise _refusal("KEY_PEPPER", "holds no pepper")
    return peppers


def refuse_weak(found: Secrets) -> None:
    """Raise ImproperlyConfigured if any secret is short, guessable, a placeholder, or used for two purposes."""
    text = found.secret_key
    if len(text) < _MIN_SECRET_KEY_CHARS:
        raise _refusal("SECRET_KEY", f"is too short: it has {len(text)} characters, {_MIN_SECRET_KEY_CHARS} are needed")
    if _is_placeholder(text):
        raise _refusal("SECRET_KEY", "is a placeholder, not a secret")
    if _bits(text) < _MIN_SECRET_KEY_BITS or _is_periodic(text):
        raise _refusal("SECRET_KEY", "is too easy to guess: it repeats itself")
    for key in found.encryption_keys:
        _refuse_weak_bytes("ENCRYPTION_KEY", key)
    for pepper in found.peppers.values():
        _refuse_weak_bytes("KEY_PEPPER", pepper)
    if any(_same(text, key) for key in found.encryption_keys):
        raise _refusal("ENCRYPTION_KEY", "is the SECRET_KEY used again: who learns one must not have the other")
    if any(_same(text, pepper) for pepper in found.peppers.values()):
        raise _refusal("KEY_PEPPER", "is the SECRET_KEY used again: who learns one must not have the other")
    if set(found.peppers.values()) & set(found.encryption_keys):
        raise _refusal("KEY_PEPPER", "is the ENCRYPTION_KEY used again: who learns one must not have the other")


def refuse_weak_token(name: str, value: str) -> None:
    """The same for an optional bearer token such as METRICS_TOKEN; an empty one is fine (the feature is off)."""
    if value and (len(value) < _MIN_TOKEN_CHARS or _is_placeholder(value) or _is_periodic(value)):
        raise _refusal(name, "is too easy to guess")


def kept(names: list[str], *, folder: Path) -> dict[str, str]:
    """The named secrets from the file in `folder`, made on first use.

    Safe when several processes start at once: they take turns on a lock file, and the file is replaced whole, so a
    reader never sees half of it and everybody ends with the same values.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(folder / f".{FILE_NAME}.lock"):
            path = folder / FILE_NAME
            stored = _read(path)
            lacking = [name for name in names if not stored.get(name)]
            if lacking:
                stored |= {name: _make(name) for name in lacking}
                _write(path, stored)
    except OSError as error:
        raise ImproperlyConfigured(
            f"Cannot keep secrets in TOLLGATE_DATA_DIR ({folder}): {error.strerror or error}. Make the folder "
            f"writable, or set {', '.join(names)} in the environment."
        ) from error
    return {name: stored[name] for name in names}


def _make(name: str) -> str:
    if name == "SECRET_KEY":
        return secrets.token_urlsafe(64)
    encoded = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
    return f"1:{encoded}" if name == "KEY_PEPPER" else encoded


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # closing drops the lock


def _read(path: Path) -> dict[str, str]:
    try:
        stored = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        # Never replaced by new ones: what was encrypted with the old key would be lost for good.
        raise ImproperlyConfigured(f"{path} is not valid JSON. Restore it from a backup.") from error
    if not isinstance(stored, dict) or not all(isinstance(value, str) for value in stored.values()):
        raise ImproperlyConfigured(f"{path} must hold one JSON object of strings. Restore it from a backup.")
    return stored


def _write(path: Path, stored: Mapping[str, str]) -> None:
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    descriptor = os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(stored, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _decode(name: str, encoded: str) -> bytes:
    # Both base64 alphabets are accepted; padding may have been cut off by a copy and paste.
    standard = encoded.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        decoded = base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise _refusal(name, "is not base64") from None
    if len(decoded) != KEY_BYTES:
        raise _refusal(name, f"must be {KEY_BYTES} bytes in base64, not {len(decoded)}")
    return decoded


def _refuse_weak_bytes(name: str, key: bytes) -> None:
    if _is_placeholder(key.decode("latin-1")):
        raise _refusal(name, "is a placeholder, not a secret")
    if len(set(key)) < _MIN_DISTINCT_BYTES:
        raise _refusal(name, "is too easy to guess: it repeats itself")
    if all(0x20 <= byte < 0x7F for byte in key):
        raise _refusal(name, "is text, not random bytes")


def _is_placeholder(text: str) -> bool:
    plain = "".join(character for character in text.lower() if character.isalnum())
    return any(word in plain for word in _PLACEHOLDERS)


def _is_periodic(text: str) -> bool:
    return text in (text + text)[1:-1]


def _bits(text: str) -> float:
    """Shannon entropy of the characters, times their number."""
    total = len(text)
    return -sum(count * math.log2(count / total) for count in Counter(text).values())


def _same(text: str, key: bytes) -> bool:
    encoded = base64.b64encode(key).decode()
    shapes = {encoded, encoded.rstrip("="), base64.urlsafe_b64encode(key).decode().rstrip("="), key.hex()}
    return text.encode() == key or any(shape in text for shape in shapes)


def _refusal(name: str, problem: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"{name} {problem}. Make a good one with: {COMMANDS[name]}")
