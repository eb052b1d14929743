"""Canary: every name of websocket-client that we rely on exists and works as we expect."""

from __future__ import annotations

import inspect
import logging
import socket
from typing import Any

import pytest
import websocket
import websocket._handshake
from websocket import ABNF, WebSocket, WebSocketApp

import wsclient
from support.helpers import Call, handshake_answer, receive_head, tcp_pair
from support.logrig import listening, making
from wsclient.testing import FakeVenue
from wsclient.threads.workers import WorkerThread


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


class TestNames:
    def test_of_the_app(self) -> None:
        names = {"url", "header", "on_open", "on_error", "subprotocols", "socket"}
        assert names <= set(parameters(WebSocketApp.__init__))
        names = {"origin", "skip_utf8_validation", "reconnect"}
        assert names <= set(parameters(WebSocketApp.run_forever))

    def test_of_what_makes_the_dispatcher(self) -> None:
        assert parameters(WebSocketApp.create_dispatcher) == [
            "self",
            "ping_timeout",
            "dispatcher",
            "is_ssl",
            "handleDisconnect",
        ]

    def test_of_the_socket(self) -> None:
        assert parameters(WebSocket.send)[:3] == ["self", "payload", "opcode"]
        assert parameters(WebSocket.ping)[:2] == ["self", "payload"]
        assert parameters(WebSocket.pong)[:2] == ["self", "payload"]
        assert parameters(WebSocket.send_close)[:2] == ["self", "status"]

    def test_of_frames_and_errors(self) -> None:
        assert (ABNF.OPCODE_TEXT, ABNF.OPCODE_BINARY) == (1, 2)
        assert issubclass(websocket.WebSocketTimeoutException, websocket.WebSocketException)

    def test_of_the_shared_jar(self) -> None:
        assert websocket._handshake.CookieJar.jar == {}


class Prepared:
    """A duck-typed socket, like HandshakeSocket, that records its calls."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        self.calls.append(name)
        return getattr(self.sock, name)


class Dispatcher:
    def __init__(self) -> None:
        self.reads: list[tuple[Any, ...]] = []
        self.sent: list[tuple[Any, bytes]] = []
        self.connected: list[bool] = []

    def read(self, *args: Any) -> None:
        self.reads.append(args)

    def send(self, sock: Any, data: bytes) -> int:
        self.sent.append((sock, bytes(data)))
        return len(data)


class App(WebSocketApp):
    def __init__(self, dispatcher: Dispatcher, **options: Any) -> None:
        super().__init__("ws://venue.example/path?query", **options)
        self.ours = dispatcher
        self.asked_with: tuple[Any, ...] = ()

    def create_dispatcher(self, *args: Any, **kwargs: Any) -> Any:
        self.asked_with = (*args, *kwargs)
        return self.ours


class Run:
    """Run ``run_forever`` once over a prepared socket, as the transport does."""

    def __init__(self, near: socket.socket, far: socket.socket, **options: Any) -> None:
        self.opened: list[WebSocket] = []
        self.errors: list[BaseException] = []
        self.dispatcher, self.prepared = Dispatcher(), Prepared(near)
        self.app = App(
            self.dispatcher,
            header=["X-Ours: 1"],
            socket=self.prepared,
            on_open=lambda app: self.on_open(app.sock),
            on_error=lambda _, error: self.errors.append(error),
            **options,
        )
        venue = Call(self._answer, far)
        self.app.run_forever(skip_utf8_validation=True, reconnect=0)
        self.request: bytes = venue.result()

    def _answer(self, far: socket.socket) -> bytes:
        request = receive_head(far)
        far.sendall(handshake_answer(request))
        return request

    def on_open(self, ws: WebSocket) -> None:
        self.opened.append(ws)
        ws.connected = False


class TestFlow:
    def test_the_prepared_socket_is_used_and_nothing_is_dialled(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def dial(*_: object, **__: object) -> None:
            pytest.fail("the library dialled by itself")

        with tcp_pair() as (near, far):
            monkeypatch.setattr(socket, "getaddrinfo", dial)
            run = Run(near, far)
            assert "recv" in run.prepared.calls
            assert "send" in run.prepared.calls
        assert run.request.startswith(b"GET /path?query HTTP/1.1\r\n")
        assert b"\r\nHost: venue.example\r\n" in run.request
        assert b"\r\nX-Ours: 1\r\n" in run.request
        assert len(run.opened) == 1

    def test_our_dispatcher_is_made_and_its_read_is_the_body_of_run_forever(self) -> None:
        with tcp_pair() as (near, far):
            run = Run(near, far)
        assert len(run.app.asked_with) == 4
        ((_, read_callback, check_callback),) = run.dispatcher.reads
        assert callable(read_callback)
        assert callable(check_callback)
        assert run.errors == []

    def test_all_that_is_sent_goes_through_its_send(self) -> None:
        class Sends(Run):
            def on_open(self, ws: WebSocket) -> None:
                ws.set_mask_key(bytes)
                ws.send("text", ABNF.OPCODE_TEXT)
                ws.send(b"data", ABNF.OPCODE_BINARY)
                ws.ping()
                ws.pong(b"payload")
                ws.send_close(1002)
                ws.connected = False

        with tcp_pair() as (near, far):
            run = Sends(near, far)
            frames = [data for _, data in run.dispatcher.sent]
            far.settimeout(0.01)
            near.close()
            assert far.recv(100) == b""
        none = bytes(4)
        assert frames == [
            b"\x81\x84" + none + b"text",
            b"\x82\x84" + none + b"data",
            b"\x89\x80" + none,
            b"\x8a\x87" + none + b"payload",
            b"\x88\x82" + none + b"\x03\xea",
        ]

    def test_a_socket_put_in_its_place_is_the_one_in_use(self) -> None:
        other = object()

        class Swaps(Run):
            def on_open(self, ws: WebSocket) -> None:
                ws.sock = other  # type: ignore[assignment]
                ws.ping()
                ws.connected = False

        with tcp_pair() as (near, far):
            run = Swaps(near, far)
        assert run.dispatcher.sent[0][0] is other
        assert run.dispatcher.reads[0][0] is other

    def test_with_connected_false_its_teardown_sends_and_reads_nothing(self) -> None:
        class Leaves(Run):
            def on_open(self, ws: WebSocket) -> None:
                assert ws.connected
                ws.connected = False

        with tcp_pair() as (near, far):
            run = Leaves(near, far)
            assert run.dispatcher.sent == []
            assert near.fileno() >= 0, "it closed our socket"

    def test_an_error_of_the_handshake_goes_to_on_error(self) -> None:
        class Refuses(Run):
            def _answer(self, far: socket.socket) -> bytes:
                request = receive_head(far)
                far.sendall(b"HTTP/1.1 101 OK\r\n\r\n")
                return request

        with tcp_pair() as (near, far):
            run = Refuses(near, far)
        assert run.opened == []
        assert [type(error) for error in run.errors] == [websocket.WebSocketException]

    def test_an_error_in_on_open_goes_to_on_error(self) -> None:
        class Fails(Run):
            def on_open(self, ws: WebSocket) -> None:
                ws.connected = False
                raise LookupError("ours")

        with tcp_pair() as (near, far):
            run = Fails(near, far)
        assert [type(error) for error in run.errors] == [LookupError]


class TestLogger:
    def test_says_nothing_from_our_threads(
        self, venue: FakeVenue, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.DEBUG, logger="websocket"):
            venue.refuse(500)
            venue.fail_handshake("garbage")
            with wsclient.connect(venue.url, retry_delay=0.01) as client:
                client.subscribe("a")
                venue.accept().rst()
                venue.accept().close(1001)
                venue.accept()
        assert [r for r in caplog.records if r.name == "websocket"] == []

    def test_makes_no_record_on_our_threads(self, venue: FakeVenue) -> None:
        """The record factory is the user's and may raise or block."""
        made: list[str] = []

        def factory(name: str, *args: Any, **kwargs: Any) -> logging.LogRecord:
            made.append(name)
            return logging.LogRecord(name, *args, **kwargs)

        with listening(name="websocket"), making(factory):
            venue.fail_handshake("garbage")
            with wsclient.connect(venue.url, retry_delay=0.01):
                venue.accept()
        assert venue.attempts == 2
        assert "websocket" not in made

    def test_still_speaks_for_others(self, caplog: pytest.LogCaptureFixture) -> None:
        logger = logging.getLogger("websocket")
        ours = WorkerThread("wsclient-test", lambda: logger.error("ours"))
        ours.start()
        ours.join()
        logger.error("theirs")
        assert [r.getMessage() for r in caplog.records if r.name == "websocket"] == ["theirs"]

    def test_keeps_secrets_even_with_the_trace_switched_on(
        self, venue: FakeVenue, capfd: pytest.CaptureFixture[str]
    ) -> None:
        logger = logging.getLogger("websocket")
        before, level = list(logger.handlers), logger.level
        websocket.enableTrace(True)
        try:
            with wsclient.connect(venue.url, headers={"Authorization": "S3CRET"}) as client:
                client.subscribe("a")
                client.send("S3CRET")
        finally:
            websocket.enableTrace(False)
            logger.handlers[:] = before
            logger.setLevel(level)
        out, err = capfd.readouterr()
        assert "S3CRET" not in out + err
