"""``show()`` outside of notebooks: in a pipe, in a terminal, without rich."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

import wsclient
from support.helpers import until
from support.inside import core_of
from wsclient.notebook import showing
from wsclient.notebook.watches import BookWatch, ClientWatch
from wsclient.telemetry.overview import chosen
from wsclient.testing import FakeVenue, KrakenProtocol

SNAPSHOT = {"bids": [{"price": 9, "qty": 1}], "asks": [{"price": 11, "qty": 4}]}
TIME = "2026-01-01T00:00:00.000000Z"


@pytest.fixture
def kraken() -> Iterator[FakeVenue]:
    protocol = KrakenProtocol()
    protocol.set_snapshot("book:A/B", **SNAPSHOT)
    with FakeVenue(protocol) as venue:
        yield venue


@pytest.fixture
def client(kraken: FakeVenue) -> Iterator[wsclient.WebSocketClient]:
    with wsclient.connect(kraken.url, dialect="kraken", name="desk") as client:
        yield client


def publish(venue: FakeVenue, channel: str, price: float) -> None:
    quote = {"bid": price, "bid_qty": 1, "ask": price, "ask_qty": 1}
    venue.publish(channel, symbol=channel.partition(":")[2], timestamp=TIME, **quote)


class TestAPipe:
    def test_gets_the_table_once(
        self,
        client: wsclient.WebSocketClient,
        kraken: FakeVenue,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        client.subscribe("ticker:A/B", "trade:A/B")
        publish(kraken, "ticker:A/B", 10.5)
        client.recv(5)
        client.show()
        shown = capsys.readouterr().out
        assert shown.startswith("WebSocketClient desk: open\n")
        (row,) = [line.split() for line in shown.splitlines() if line.startswith("ticker:A/B")]
        assert row[:3] == ["ticker:A/B", "10.5", "1"]

    def test_counts_in_words(
        self, client: wsclient.WebSocketClient, capsys: pytest.CaptureFixture[str]
    ) -> None:
        client.subscribe("ticker:A/B")
        client.show()
        assert "1 of 1 open, 0 reconnects, 1 channel\n" in capsys.readouterr().out

    def test_gets_a_book(
        self, client: wsclient.WebSocketClient, capsys: pytest.CaptureFixture[str]
    ) -> None:
        client.order_book("A/B").show(depth=1)
        shown = capsys.readouterr().out
        assert "synced" in shown
        assert "9   11" in " ".join(shown.splitlines()[-1:])

    def test_gets_that_the_client_is_closed(
        self, client: wsclient.WebSocketClient, capsys: pytest.CaptureFixture[str]
    ) -> None:
        client.close()
        client.show()
        assert "closed" in (shown := capsys.readouterr().out)
        assert shown.endswith("ended\n")


class TestArguments:
    @pytest.mark.parametrize(
        "arguments", [{"interval": 0.1}, {"limit": 0}, {"interval": None}, {"limit": 1.5}]
    )
    def test_that_cannot_work_are_refused(
        self, client: wsclient.WebSocketClient, arguments: dict[str, float]
    ) -> None:
        with pytest.raises(wsclient.ConfigurationError, match=next(iter(arguments))):
            client.show(**arguments)  # type: ignore[arg-type]

    def test_channels_are_texts(self, client: wsclient.WebSocketClient) -> None:
        with pytest.raises(wsclient.ConfigurationError, match="channel"):
            client.show(["ticker:A/B"])  # type: ignore[arg-type]

    def test_the_depth_of_a_book_is_checked(self) -> None:
        with pytest.raises(wsclient.ConfigurationError, match="depth"):
            wsclient.OrderBook("kraken", "book:A/B").show(depth=0)


class TestAPicture:
    def test_of_many_channels_has_those_with_the_most_messages(
        self, client: wsclient.WebSocketClient, kraken: FakeVenue
    ) -> None:
        client.subscribe(*(f"ticker:{n}/B" for n in range(30)))
        for _ in range(3):
            publish(kraken, "ticker:7/B", 1)
            client.recv(5)
        watch = ClientWatch(client, (), 2, 0.25)
        picture = watch.look()
        assert picture is not None
        assert [row[0] for row in picture.rows] == ["ticker:0/B", "ticker:7/B"]
        assert picture.hidden == 28
        publish(kraken, "ticker:9/B", 1)
        client.recv(5)
        assert chosen(client.stats(), (), 2) == ["ticker:7/B", "ticker:9/B"]

    def test_keeps_its_channels_until_others_have_clearly_more(
        self, client: wsclient.WebSocketClient, kraken: FakeVenue
    ) -> None:
        client.subscribe("ticker:1/B", "ticker:2/B")
        for channel, count in (("ticker:1/B", 9), ("ticker:2/B", 10)):
            for _ in range(count):
                publish(kraken, channel, 1)
                client.recv(5)
        stats = client.stats()
        assert chosen(stats, (), 1) == ["ticker:2/B"]
        assert chosen(stats, (), 1, ["ticker:1/B"]) == ["ticker:1/B"]
        assert chosen(stats, (), 1, ["gone"]) == ["ticker:2/B"]

    def test_has_the_channels_that_were_named(self, client: wsclient.WebSocketClient) -> None:
        client.subscribe("ticker:A/B", "trade:A/B")
        picture = ClientWatch(client, ("trade:A/B", "no:A/B"), 20, 0.25).look()
        assert picture is not None
        assert [row[0] for row in picture.rows] == ["trade:A/B", "no:A/B"]

    def test_shows_the_trend_of_a_price(
        self, client: wsclient.WebSocketClient, kraken: FakeVenue
    ) -> None:
        client.subscribe("ticker:A/B", "trade:A/B")
        watch = ClientWatch(client, (), 20, 0.25)
        for price in (1, 2):
            publish(kraken, "ticker:A/B", price)
            client.recv(5)
            picture = watch.look()
        kraken.publish("trade:A/B", nonsense=True)
        client.recv(5)
        assert watch.look() is not None
        assert picture is not None
        assert "▁█" in "\n".join(picture.as_lines())

    def test_holds_neither_the_client_nor_the_book(self, kraken: FakeVenue) -> None:
        client = wsclient.connect(kraken.url, dialect="kraken")
        book = client.order_book("A/B")
        watches = ClientWatch(client, (), 20, 0.25), BookWatch(book, core_of(client), 5, 0.25)
        shown = [watch.look() for watch in watches]
        assert None not in shown
        del client, book
        until(lambda: not kraken.live)
        assert [watch.look() for watch in watches] == [None, None]
        ended = [watch.last(before) for watch, before in zip(watches, shown, strict=True)]  # type: ignore[arg-type]
        assert {picture.state for picture in ended} == {"closed"}

    def test_of_a_recording_is_that_of_the_client(
        self, client: wsclient.WebSocketClient, kraken: FakeVenue, tmp_path: os.PathLike[str]
    ) -> None:
        with client.record(tmp_path):
            client.subscribe("ticker:A/B")
            publish(kraken, "ticker:A/B", 10)
            client.recv(5)
        with wsclient.open_recording(tmp_path) as played:
            next(iter(played))
            assert "ticker:A/B" in played._repr_html_()
            assert played not in wsclient.clients()


PROGRAM = """
import sys, threading, wsclient
client = wsclient.connect(sys.argv[1], dialect="kraken", name="desk")
client.subscribe("ticker:A/B")
book = client.order_book("A/B")
{}
threads = [thread.name for thread in threading.enumerate() if "show" in thread.name]
print("AFTER", threads, "IPython" in sys.modules)
client.close()
"""


def run_in_a_terminal(program: str, url: str, when: Callable[[str], bool], key: bytes) -> str:
    """Run a program in a terminal; type ``key`` when ``when`` is true. Return what it wrote."""
    control, terminal = pty.openpty()
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
    command = [sys.executable, "-c", program, url]
    # A session of its own, so that a Ctrl-C of this terminal reaches it.
    with subprocess.Popen(
        command,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=environ,
        start_new_session=True,
        preexec_fn=_take_terminal,
    ) as process:
        os.close(terminal)
        written, is_typed, end = "", False, time.monotonic() + 30
        while time.monotonic() < end:
            if select.select([control], [], [], 0.1)[0]:
                try:
                    read = os.read(control, 65536)
                except OSError:  # the program has ended
                    break
                written += read.decode(errors="replace")
            if not is_typed and when(written):
                is_typed = True
                os.write(control, key)
        os.close(control)
    assert process.returncode == 0, written
    return written


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class TestATerminal:
    def test_shows_the_table_until_ctrl_c(self, kraken: FakeVenue) -> None:
        written = run_in_a_terminal(
            PROGRAM.format("client.show()"), kraken.url, lambda text: "ticker:A/B" in text, b"\x03"
        )
        assert "Traceback" not in written
        assert written.rstrip().endswith("AFTER [] False")
        assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")  # the cursor is back

    def test_shows_the_table_until_the_client_is_closed(self, kraken: FakeVenue) -> None:
        program = PROGRAM.format("threading.Timer(0.4, client.close).start()\nbook.show()")
        written = run_in_a_terminal(program, kraken.url, lambda _: False, b"")
        assert "synced" in written
        assert "ended" in written
        assert written.rstrip().endswith("AFTER [] False")

    def test_needs_rich(
        self, client: wsclient.WebSocketClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "wsclient.notebook.screen", None)
        monkeypatch.setattr(showing.sys.stdout, "isatty", lambda: True)
        with pytest.raises(wsclient.ConfigurationError, match=r"wsclient-market\[cli\]"):
            client.show()
