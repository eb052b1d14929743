"""URLs: what is refused, and what is taken from one that is not."""

from __future__ import annotations

import socket

import pytest

from support.attempts import SECRET, connect
from support.helpers import (
    addresses,
    text_of,
)
from wsclient import (
    ConfigurationError,
)
from wsclient.testing import FakeVenue
from wsclient.transport.addresses import Address, parse_url


class TestUrl:
    @pytest.mark.parametrize(
        ("url", "address"),
        [
            ("ws://venue.example", Address("venue.example", 80, False)),
            ("wss://venue.example", Address("venue.example", 443, True)),
            ("wss://Venue.Example/v2?token=x", Address("venue.example", 443, True)),
            ("ws://127.0.0.1:8080/", Address("127.0.0.1", 8080, False)),
            ("wss://[::1]:9/path", Address("::1", 9, True)),
            ("WS://host/", Address("host", 80, False)),
            ("Wss://HOST:8443", Address("host", 8443, True)),
            ("wss://börse.example/", Address("xn--brse-5qa.example", 443, True)),
            ("wss://BÖRSE.example/", Address("xn--brse-5qa.example", 443, True)),
            ("wss://straße.example/", Address("xn--strae-oqa.example", 443, True)),
            ("ws://\uff11\uff12\uff17.0.0.1/", Address("127.0.0.1", 80, False)),
        ],
    )
    def test_is_taken_apart(self, url: str, address: Address) -> None:
        assert parse_url(url) == address

    @pytest.mark.parametrize(
        ("url", "why"),
        [
            (f"ws://host/{SECRET}\r", "control"),
            (f"ws://host/{SECRET}\nX: y", "control"),
            (f"ws://host/{SECRET}\0", "control"),
            (f"ws://host/{SECRET} x", "space"),
            (f"ws://user:{SECRET}@host/", "user part"),
            (f"ws://{SECRET}@host/", "user part"),
            (f"ws://host/#{SECRET}", "fragment"),
            (f"ws://host/{SECRET}#", "fragment"),
            (f"ws://host:{SECRET}/", "port"),
            (f"ws://host:99999/{SECRET}", "port"),
            (f"ws://host:0/{SECRET}", "port"),
            (f"ws://host:-1/{SECRET}", "port"),
            (f"http://host/{SECRET}", "begin with"),
            (f"{SECRET}://host/", "begin with"),
            (SECRET, "begin with"),
            (f"ws:///{SECRET}", "host"),
            (f"ws://:80/{SECRET}", "host"),
            (f"ws://[::1/{SECRET}", "host"),
            (f"ws://user:{SECRET}\u2100@host/", "host"),
            (f"ws://-ö-.example/{SECRET}", "international"),
            (f"ws://host/{SECRET}\ud800", "surrogate"),
            (b"ws://host/", "bytes"),
            (None, "NoneType"),
        ],
    )
    def test_that_cannot_work_is_refused_and_not_quoted(self, url: object, why: str) -> None:
        with pytest.raises(ConfigurationError, match=why) as caught:
            parse_url(url)
        assert SECRET not in text_of(caught.value)

    @pytest.mark.parametrize(
        ("host", "is_loopback"),
        [
            ("localhost", True),
            ("127.0.0.1", True),
            ("127.9.9.9", True),
            ("::1", True),
            ("192.0.2.1", False),
            ("localhost.example.com", False),
            ("127.0.0.1.example.com", False),
        ],
    )
    def test_loopback_is_recognised_by_the_address_alone(
        self, host: str, is_loopback: bool
    ) -> None:
        assert Address(host, 80, False).is_loopback is is_loopback

    def test_an_address_reads_as_a_url_without_its_path(self) -> None:
        assert str(parse_url(f"wss://[::1]:9/{SECRET}?{SECRET}")) == "wss://[::1]:9"


class TestResource:
    """The path and query in the request line, sent by a whole client."""

    @pytest.mark.parametrize(
        ("given", "sent"),
        [
            ("", "/"),
            ("/", "/"),
            ("?a=1", "/?a=1"),
            ("/v2?", "/v2?"),
            ("/a;b=1/c;d=2?e;f=3", "/a;b=1/c;d=2?e;f=3"),
            ("/a%20b%2Fc", "/a%20b%2Fc"),
            ("/kurs/größe?währung=€", "/kurs/gr%C3%B6%C3%9Fe?w%C3%A4hrung=%E2%82%AC"),
            ("?u=ws://x/?y", "/?u=ws://x/?y"),
        ],
    )
    def test_is_what_was_given(self, venue: FakeVenue, given: str, sent: str) -> None:
        with connect(venue.url.rstrip("/") + given):
            request = venue.accept().request
        assert request is not None
        assert request.path == sent

    def test_an_international_host_goes_out_in_ascii(
        self, venue: FakeVenue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(socket, "getaddrinfo", addresses(("127.0.0.1", venue.port)))
        with connect(f"ws://börse.example:{venue.port}/"):
            request = venue.accept().request
        assert request is not None
        assert request.headers["Host"] == f"xn--brse-5qa.example:{venue.port}"
        assert request.headers["Origin"] == f"http://xn--brse-5qa.example:{venue.port}"

    def test_a_scheme_in_capitals_connects(self, venue: FakeVenue) -> None:
        with connect(venue.url.replace("ws://", "WS://")) as client:
            assert client.is_connected

    @pytest.mark.parametrize(
        ("address", "header"),
        [
            (Address("host", 80, False), "host"),
            (Address("host", 443, True), "host"),
            (Address("host", 80, True), "host:80"),
            (Address("host", 443, False), "host:443"),
            (Address("::1", 9, False), "[::1]:9"),
            (Address("::1", 443, True), "[::1]"),
        ],
    )
    def test_the_host_is_without_the_port_of_its_scheme(
        self, address: Address, header: str
    ) -> None:
        assert address.host_header == header
