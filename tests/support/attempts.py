"""Clients with a single attempt to connect, and why it failed."""

from __future__ import annotations

from typing import Any

import pytest

import wsclient
from support.helpers import text_of
from wsclient import ConnectError

__all__ = ["SECRET", "SLACK", "connect", "failure_of"]

SECRET = "S3CRET"
#: How much (s) a deadline may be exceeded.
SLACK = 0.25


def connect(url: str, **options: Any) -> wsclient.WebSocketClient:
    return wsclient.connect(url, max_retries=1, **options)


def failure_of(url: str, **options: Any) -> BaseException:
    """Return why the only attempt failed. No text about it may contain the secret."""
    with pytest.raises(wsclient.WSClientError) as caught:
        connect(url, **options)
    assert SECRET not in text_of(caught.value)
    if isinstance(caught.value, ConnectError) and caught.value.__cause__ is not None:
        return caught.value.__cause__
    return caught.value
