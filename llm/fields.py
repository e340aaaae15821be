"""Provider keys at rest: authenticated encryption bound to the row. The one module that imports django_cryptography.

A sealed value is `key id (8 bytes) + nonce (12) + AES-256-GCM ciphertext`, with tenant, row and field as associated
data: moved to another row it does not open. Keys come from ENCRYPTION_KEY (the first encrypts, all decrypt), outside
the database and independent of SECRET_KEY.
"""

import hashlib
import hmac
import os
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings
from django.db import models
from django.utils.encoding import force_bytes
from django_cryptography.fields import EncryptedMixin

_ID, _NONCE = 8, 12


class CannotDecrypt(Exception):
    """No key of the ring opens this value in this row. Says which key id was asked for, never the value."""


class Secret:
    """A provider's key in memory. It refuses to become text by accident; `reveal()` is the one way."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The key itself: call this only where it is put into a provider's request header."""
        return self._value

    @property
    def prefix(self) -> str:
        return self._value[:4] if len(self._value) >= 16 else ""

    @property
    def suffix(self) -> str:
        return self._value[-4:] if len(self._value) >= 16 else ""

    @property
    def fingerprint(self) -> str:
        """Tells two keys apart without telling either. Keyed, so that short keys cannot be guessed from it."""
        return hashlib.blake2b(self._value.encode(), key=_ring()[0][1], digest_size=16).hexdigest()

    def same_as(self, other: "Secret") -> bool:
        """Whether both are the same key."""
        return hmac.compare_digest(self._value.encode(), other.reveal().encode())

    def __repr__(self) -> str:
        return "Secret(…)"

    def __str__(self) -> str:
        raise TypeError("A secret is not text. Use reveal() where it goes into a request.")

    def __format__(self, spec: str) -> str:
        raise TypeError("A secret is not text. Use reveal() where it goes into a request.")

    def __reduce__(self) -> Any:
        raise TypeError("A secret is never pickled.")


def _ring() -> list[tuple[bytes, bytes]]:
    """(key id, key) of every key in force, the encrypting one first. The id is a hash of the key."""
    return [(hashlib.sha256(b"tollgate key id" + key).digest()[:_ID], key) for key in settings.ENCRYPTION_KEYS]


class SealedField(EncryptedMixin, models.BinaryField):  # type: ignore[type-arg]
    """django-cryptography's encrypted field with a keyring, AES-GCM and row binding instead of one key and pickle.

    The column's Python value is the ciphertext: rows load, list and dump without ever decrypting. `open` is explicit.
    """

    base_class = models.BinaryField
    wasinstance = True

    def _dump(self, value: bytes) -> bytes:
        return bytes(value)

    def _load(self, value: bytes) -> bytes:
        return force_bytes(value)

    def deconstruct(self) -> tuple[str, str, Any, Any]:
        name, _, args, kwargs = models.BinaryField.deconstruct(self)
        return name, "llm.fields.SealedField", args, kwargs

    def clone(self) -> "SealedField":
        # The mixin's own clone makes a new field of the bare encrypted class, with its one key and pickle.
        _, _, args, kwargs = self.deconstruct()
        return SealedField(*args, **kwargs)

    @staticmethod
    def seal(secret: Secret, binding: bytes) -> bytes:
        key_id, key = _ring()[0]
        nonce = os.urandom(_NONCE)
        return key_id + nonce + AESGCM(key).encrypt(nonce, secret.reveal().encode(), key_id + binding)

    @staticmethod
    def is_current(sealed: bytes) -> bool:
        """Whether it is sealed under the key that encrypts now."""
        return sealed[:_ID] == _ring()[0][0]

    @staticmethod
    def open(sealed: bytes, binding: bytes) -> Secret:
        """Raises CannotDecrypt."""
        key_id, nonce, body = sealed[:_ID], sealed[_ID : _ID + _NONCE], sealed[_ID + _NONCE :]
        for ring_id, key in _ring():
            if ring_id == key_id:
                try:
                    return Secret(AESGCM(key).decrypt(nonce, body, key_id + binding).decode())
                except (InvalidTag, ValueError) as error:
                    raise CannotDecrypt("This value was not sealed for this row.") from error
        raise CannotDecrypt(f"No key with id {key_id.hex()} is in ENCRYPTION_KEY. Put the old key back, after the new.")
