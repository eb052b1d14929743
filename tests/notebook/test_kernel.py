"""Clients in a real kernel: interrupts, reruns, cells that raise, live tables, a restart."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from support.helpers import until
from support.kernels import IMPORTS, PATIENCE, Kernel
from wsclient.testing import FakeVenue, KrakenProtocol

SNAPSHOT = {"bids": [{"price": 9, "qty": 1}], "asks": [{"price": 11, "qty": 1}]}
TIME = "2026-01-01T00:00:00.000000Z"
#: The longest time (s) from an interrupt to the program's next line; a busy machine adds to it.
AT_ONCE = 0.1
#: How often a cell is interrupted, and how often it runs: here, and in full size.
FEW, MANY = 2, 20

OURS = (
    "[t.name for t in threading.enumerate() if t.name[:9] == 'wsclient-' and t.name[9:] != 'log']"
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def started() -> Iterator[Kernel]:
    kernel = Kernel()
    with kernel.running():
        yield kernel


@pytest.fixture
def venue() -> Iterator[FakeVenue]:
    protocol = KrakenProtocol()
    protocol.set_snapshot("book:A/B", **SNAPSHOT)
    with FakeVenue(protocol) as venue:
        yield venue


@pytest.fixture
def kernel(started: Kernel, venue: FakeVenue) -> Iterator[Kernel]:
    """The kernel. No test leaves a client, a thread or a word that was printed."""
    started.run(f"url = {venue.url!r}")
    yield started
    started.run("wsclient.close_all()\nget_ipython().reset()")
    started.run(IMPORTS)
    until(lambda: started.value(OURS) == [], PATIENCE)
    printed = started.printed()
    started.published.clear()
    assert printed == []


def live(venue: FakeVenue, count: int) -> None:
    venue.wait_for(lambda v: len(v.live) == count, PATIENCE)


CONNECT = "client = wsclient.connect(url, dialect='kraken')"


# --- interrupts ----------------------------------------------------------------------------------

CALLS = {
    "loop": "for message in client: pass",
    "recv": "client.recv()",
    "wait": "client.wait()",
    "batch": "client.recv_batch()",
}


def interrupted(kernel: Kernel, when: Callable[[], object], call: str) -> float:
    """Interrupt a call. Return the time (s) from the interrupt to the program's next line."""
    source = f"try:\n    {call}\nexcept KeyboardInterrupt:\n    at = time.time()\n    raise"
    cell, struck = kernel.interrupt(when, source)
    assert [output.get("ename") for output in cell.outputs] == ["KeyboardInterrupt"]
    return float(kernel.value("at")) - struck


def blocked(kernel: Kernel, venue: FakeVenue, call: str, number: int) -> float:
    """Interrupt a call of a client. It is made just after a subscribe, which the venue sees."""
    channel = f"trade:{number}/B"
    seen = partial(venue.wait_for, lambda v: v.subscribers(channel), PATIENCE)
    return interrupted(kernel, seen, f"client.subscribe('{channel}')\n    {call}")


@pytest.mark.parametrize("call", CALLS)
def test_an_interrupt_ends_a_call_at_once(kernel: Kernel, venue: FakeVenue, call: str) -> None:
    kernel.run(CONNECT)
    kernel.run("client.subscribe('ticker:A/B')")
    took = [blocked(kernel, venue, CALLS[call], number) for number in range(FEW)]
    assert min(took) < AT_ONCE
    venue.publish("ticker:A/B", bid=9.5)
    assert kernel.value(f"client.recv({PATIENCE}).channel") == "ticker:A/B"
    assert (len(venue.peers), len(venue.live)) == (1, 1)


def test_an_interrupt_ends_a_connect_at_once(kernel: Kernel) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        kernel.run(f"silent = 'ws://127.0.0.1:{mute.getsockname()[1]}'")
        took = []
        for _ in range(FEW):
            taken: list[socket.socket] = []
            call = "wsclient.connect(silent, dialect='kraken')"
            took.append(interrupted(kernel, lambda t=taken: t.append(mute.accept()[0]), call))
            taken[0].close()
        assert min(took) < AT_ONCE
    assert kernel.value("wsclient.clients()") == []


@pytest.mark.soak
@pytest.mark.parametrize("call", CALLS)
def test_fifty_interrupts_end_a_call_at_once(kernel: Kernel, venue: FakeVenue, call: str) -> None:
    kernel.run(CONNECT)
    took = [blocked(kernel, venue, CALLS[call], number) for number in range(50)]
    print(f"{call}: longest {max(took):.3f} s")
    assert max(took) < AT_ONCE
    assert (len(venue.peers), len(venue.live)) == (1, 1)


# --- reruns --------------------------------------------------------------------------------------

RAISES = """
def trade():
    mine = wsclient.connect(url, dialect='kraken')
    mine.subscribe('ticker:A/B')
    raise ValueError('no')
trade()
"""
HOLDS = """
class Desk:
    def __init__(self):
        self.clients = [wsclient.connect(url, dialect='kraken')]
        raise ValueError('no')
Desk()
"""
CHAINS = """
def trade():
    mine = wsclient.connect(url, dialect='kraken')
    try:
        mine.recv(timeout=0)
    except TimeoutError as error:
        raise ValueError('no') from error
trade()
"""
GENERATES = """
def ticks():
    mine = wsclient.connect(url, dialect='kraken')
    yield 1
    raise ValueError('no')
list(ticks())
"""
CELLS = {
    "a bare client": f"{CONNECT}\nclient",
    "a bare book": f"{CONNECT}\nbook = client.order_book('A/B')\nbook",
    "a tuple": f"{CONNECT}\nclient, 5",
    "a method": f"{CONNECT}\nclient.recv",
    "an unnamed client": "wsclient.connect(url, dialect='kraken')",
    "a function that raises": RAISES,
    "an object that is never made": HOLDS,
    "an error with a cause": CHAINS,
    "a generator that raises": GENERATES,
    "a block that raises": "with wsclient.connect(url, dialect='kraken') as c:\n    1 / 0",
    "show": f"{CONNECT}\nclient.show()",
}


@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_that_runs_again_leaves_one_connection(
    kernel: Kernel, venue: FakeVenue, cell: str
) -> None:
    for _ in range(MANY if cell in ("a bare client", "a function that raises") else 4):
        kernel.run(CELLS[cell])
    live(venue, 0 if cell == "a block that raises" else 1)
    ended = [peer.close_code for peer in venue.peers if peer not in venue.live]
    assert set(ended) == {1000}


def test_the_collector_is_not_needed(kernel: Kernel, venue: FakeVenue) -> None:
    kernel.run("import gc; gc.collect(); gc.disable()")
    for _ in range(4):
        kernel.run(CELLS["a bare client"])
        kernel.run(RAISES)
    live(venue, 2)
    kernel.run("gc.enable()")


def test_an_edited_cell_is_known_by_its_id(kernel: Kernel, venue: FakeVenue) -> None:
    for number in range(4):
        kernel.run(f"{CONNECT}  # {number}\nclient", cell="one")
    live(venue, 1)


def test_what_the_program_holds_by_a_name_is_not_touched(kernel: Kernel, venue: FakeVenue) -> None:
    kernel.run("kept = []")
    cell = f"{CONNECT}\nkept.append(client)\nclient"
    for _ in range(3):
        kernel.run(cell)
    kernel.run(cell)
    assert kernel.value("[c.is_connected for c in kept]") == [True] * 4
    assert len(venue.live) == 4
    kernel.run("del kept, client")
    live(venue, 1)  # that of the last run, which Out has


SUSPENDED = """
def ticks():
    mine = wsclient.connect(url, dialect='kraken')
    try:
        raise ValueError('no')
    except ValueError as error:
        yield error
    yield mine.is_connected
found = ticks()
kept.append(found)
raise RuntimeError('no') from next(found)
"""


def test_a_generator_that_the_program_holds_goes_on(kernel: Kernel, venue: FakeVenue) -> None:
    """Though it is in the last traceback."""
    kernel.run("kept = []")
    for _ in range(3):
        kernel.run(SUSPENDED)
    assert kernel.value("[next(found, None) for found in kept]") == [True] * 3
    assert len(venue.live) == 3


def test_what_other_cells_have_returned_stays(kernel: Kernel, venue: FakeVenue) -> None:
    kernel.run("['mine']")
    kernel.run("other = wsclient.connect(url, dialect='kraken')")
    kernel.run("other")
    for _ in range(3):
        kernel.run(CELLS["a bare client"])
    live(venue, 2)
    kernel.run("del other")
    kernel.run("found = [v for v in Out.values()]")
    assert kernel.value(
        "(['mine'] in found, sum('WebSocketClient' in str(type(v)) for v in found))"
    ) == (True, 2)


# --- live tables ---------------------------------------------------------------------------------


def pictures(kernel: Kernel) -> list[dict[str, Any]]:
    """Return the messages with tables: that of the display, then the updates."""
    kinds = ("display_data", "update_display_data")
    return [m for m in kernel.published if m["msg_type"] in kinds]


def text_of(message: dict[str, Any]) -> str:
    return str(message["content"]["data"]["text/plain"])


def until_shown(kernel: Kernel, text: str) -> dict[str, Any]:
    """Wait for an update with ``text``, and return it."""
    kernel.listen(lambda m: m["msg_type"] == "update_display_data" and text in text_of(m))
    return kernel.published[-1]


def test_a_live_table_goes_on_in_its_cell_and_nowhere_else(
    kernel: Kernel, venue: FakeVenue
) -> None:
    kernel.run(f"{CONNECT}\nclient.subscribe('ticker:A/B')")
    shown = kernel.run("client.show()")
    assert [output.output_type for output in shown.outputs] == ["display_data"]
    assert "text/html" in shown.outputs[0].data
    for price in (10, 20):
        quote = {"bid": price, "bid_qty": 1, "ask": price, "ask_qty": 1}
        venue.publish("ticker:A/B", symbol="A/B", timestamp=TIME, **quote)
        cell = kernel.run("time.sleep(0.6)")  # while another cell runs, too
        assert cell.outputs == []
        until_shown(kernel, f" {price} ")
    kernel.run("client.close()")
    assert "closed" in text_of(until_shown(kernel, "ended"))
    first, *updates = pictures(kernel)
    assert first["msg_type"] == "display_data"
    for update in updates:
        assert update["msg_type"] == "update_display_data"
        assert update["parent_header"]["msg_id"] == first["parent_header"]["msg_id"]
        assert update["content"]["transient"] == first["content"]["transient"]
    assert 3 <= len(updates) <= 10


def test_a_table_of_which_nothing_changes_is_not_sent_again(kernel: Kernel) -> None:
    kernel.run(f"{CONNECT}\nbook = client.order_book('A/B')")
    kernel.run("book.show()\ntime.sleep(1)")
    kernel.run("client.show()\ntime.sleep(0.1)")
    kernel.listen_to_the_end()
    assert "synced" in text_of(pictures(kernel)[0])
    assert len(pictures(kernel)) <= 3


@pytest.mark.parametrize(
    "end", ["rerun", "interrupt", "cancel", "collected", "failed", "book closed"]
)
def test_a_live_table_ends(kernel: Kernel, venue: FakeVenue, end: str) -> None:
    kernel.run(f"{CONNECT}\nbook = client.order_book('A/B')")
    if end == "book closed":
        kernel.run("book.show()")
        kernel.run("book.close()")
        until_shown(kernel, "ended")
    elif end == "collected":
        kernel.run("client.show()")
        kernel.run("del client, book")
        until_shown(kernel, "ended: nothing holds it")
    elif end == "failed":
        # Else the client's alarm would be printed: no logging is configured.
        kernel.run(
            "import logging\nlogging.getLogger('wsclient').addHandler(logging.NullHandler())"
        )
        kernel.run("client.show()")
        venue.refuse(401)
        venue.live[0].rst()
        until_shown(kernel, "ended: ")
    elif end == "interrupt":
        kernel.run("client.show()\nbook.show()")
        blocked(kernel, venue, "client.recv()", 1)
        until_shown(kernel, "interrupt")
    elif end == "cancel":  # an interrupt ends a cell that awaits by this
        kernel.run("client.show()")
        kernel.run("import asyncio\nraise asyncio.CancelledError")
        until_shown(kernel, "interrupt")
    else:
        for _ in range(5):
            kernel.run("client.show()")
        until(lambda: kernel.value(OURS).count("wsclient-show") == 1, PATIENCE)
        kernel.run("client.close()")
    until(lambda: "wsclient-show" not in kernel.value(OURS), PATIENCE)


def test_a_table_whose_output_is_captured_is_shown_once(kernel: Kernel) -> None:
    kernel.run(CONNECT)
    cell = kernel.run("%%capture kept\nclient.show()")
    assert cell.outputs == []
    assert kernel.value(f"(len(kept.outputs), 'wsclient-show' in {OURS})") == (1, False)


# --- a restart -----------------------------------------------------------------------------------


def test_a_restart_leaves_no_connection(kernel: Kernel, venue: FakeVenue) -> None:
    kernel.run(f"{CONNECT}\nclient.show()\nclient")
    live(venue, 1)
    kernel.restart()
    live(venue, 0)
    kernel.run(f"url = {venue.url!r}\n{CONNECT}")
    live(venue, 1)
