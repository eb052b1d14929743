"""Signatures. Venues differ only in the signed text, the hash and how the result is encoded."""

from __future__ import annotations

import base64
import binascii
import hmac

from wsclient.errors import ConfigurationError

__all__ = ["from_base64", "sign", "sign_in_base64"]


def sign(secret: str | bytes, text: str | bytes, algorithm: str = "sha256") -> bytes:
    """Return the HMAC of ``text``. For a venue that wants it in hex, call ``hex()`` on it."""
    return hmac.digest(_bytes(secret), _bytes(text), algorithm)


def sign_in_base64(secret: str | bytes, text: str | bytes, algorithm: str = "sha256") -> str:
    """Return the HMAC of ``text``, encoded in base64."""
    return base64.b64encode(sign(secret, text, algorithm)).decode()


def from_base64(secret: str) -> bytes:
    """Decode a secret that the venue issues in base64.

    Raises ConfigurationError if it is not valid base64.
    """
    try:
        return base64.b64decode(secret, validate=True)
    except (ValueError, binascii.Error):
        raise ConfigurationError(
            "the secret is not valid base64: pass it exactly as the venue issued it"
        ) from None


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
