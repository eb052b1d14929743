"""Signatures: venues differ in the text, the hash and how the result is written, no more."""

from __future__ import annotations

import base64
import binascii
import hmac

from wsclient.errors import ConfigurationError

__all__ = ["from_base64", "sign", "sign_in_base64"]


def sign(secret: str | bytes, text: str | bytes, algorithm: str = "sha256") -> bytes:
    """The HMAC of ``text``; a venue that wants it in hex gets its ``hex()``."""
    return hmac.digest(_bytes(secret), _bytes(text), algorithm)


def sign_in_base64(secret: str | bytes, text: str | bytes, algorithm: str = "sha256") -> str:
    return base64.b64encode(sign(secret, text, algorithm)).decode()


def from_base64(secret: str) -> bytes:
    """The bytes of a secret that the venue gives in base64. Raises ConfigurationError."""
    try:
        return base64.b64decode(secret, validate=True)
    except (ValueError, binascii.Error):
        raise ConfigurationError("the secret is not in base64, as the venue gives it") from None


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
