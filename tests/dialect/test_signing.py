"""Signatures, by the examples in the venues' documentation."""

from __future__ import annotations

import hashlib

import pytest

from wsclient.dialect.signing import from_base64, sign, sign_in_base64
from wsclient.errors import ConfigurationError


def test_the_signature_of_krakens_example() -> None:
    """From its guide to REST authentication."""
    secret = (
        "kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg=="
    )
    body = "nonce=1616492376594&ordertype=limit&pair=XBTUSD&price=37500&type=buy&volume=1.25"
    digest = hashlib.sha256(f"1616492376594{body}".encode()).digest()
    signature = sign_in_base64(from_base64(secret), b"/0/private/AddOrder" + digest, "sha512")
    assert signature == (
        "4/dpxb3iT4tp/ZCVEwSnEsLxx0bqyhLpdfOpc6fn7OR8+UClSV5n9E6aSS8MPtnRfp32bAb0nmbRn6H8ndwLUQ=="
    )


def test_the_signature_of_kucoins_example() -> None:
    text = '1547015186532POST/api/v1/deposit-addresses{"currency":"BTC"}'
    signature = sign_in_base64("f03a5284-5c39-4aaa-9b20-dea10bdcf8e3", text)
    assert signature == "7QP/oM0ykidMdrfNEUmng8eZjg/ZvPafjIqmxiVfYu4="


def test_the_hash_is_sha256_by_default() -> None:
    assert len(sign("s", "t")) == 32
    assert len(sign("s", "t", "sha384")) == 48


@pytest.mark.parametrize("secret", ["5ecret", "5ecret é", "5ec-ret_"])
def test_a_secret_that_is_not_base64_is_refused_without_quoting_it(secret: str) -> None:
    with pytest.raises(ConfigurationError, match="base64") as caught:
        from_base64(secret)
    assert "5ec" not in str(caught.value)
