"""The interpreter ends within one second, without output, whatever its clients are doing."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from itertools import cycle, islice

import pytest

from support.matrix import each_size
from support.program import STRIKE, End, Program
from wsclient.testing import FakeVenue

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")

START = f"""{STRIKE}
import signal
import wsclient
url = sys.argv[1]

class Asking(wsclient.Generic):
    def request(self, payload, request_id):
        return payload

def leave(number, _):
    sys.exit(number)

def until(condition):
    while not condition():
        threading.Event().wait(0.005)

def thread(function, *args):
    threading.Thread(target=function, args=args, daemon=True).start()
"""
OPEN = """
client = wsclient.connect(url, dialect=Asking(), close_timeout=60)
client.subscribe("feed")
client.recv()
"""
NOW = "print(time.monotonic(), flush=True); "

#: What the clients of a program are doing when it ends. While they get to "deaf" the venue does not
#: answer; while they get to "down" there is no venue.
STATES = {
    "idle": "client = wsclient.WebSocketClient(url)\n{end}",
    "open, with messages queued": OPEN + "until(lambda: client.stats().queued)\n{end}",
    "open, read by a reader and a callback": OPEN
    + "reader = client.reader('feed')\nclient.on('feed', str)\nreader.recv()\n{end}",
    "open, iterated by a thread": OPEN
    + "thread(list, client)\nuntil(lambda: client.stats().messages > 9)\n{end}",
    "open, a thread blocked": OPEN + "thread(client.reader('silent').recv)\n{end}",
    "open, within the loop": OPEN + "for message in client:\n    {end}",
    "open, within the block": OPEN + "with client:\n    {end}",
    "closed": OPEN + "client.close()\n{end}",
    "connecting, deaf": """
client = wsclient.WebSocketClient(url)
thread(client.connect)
until(lambda: client.state is wsclient.State.CONNECTING)
{end}""",
    "backing off, down": """
client = wsclient.WebSocketClient(url, retry_delay=60, jitter=False)
thread(client.connect)
until(lambda: client.state is wsclient.State.BACKING_OFF)
{end}""",
}
#: How it ends, with which code and which output.
ENDS = {
    "pass": (0, ""),
    "sys.exit()": (0, ""),
    "raise RuntimeError": (1, "RuntimeError"),
    "os.kill(os.getpid(), signal.SIGTERM)": (-15, ""),
    "signal.signal(signal.SIGTERM, leave); os.kill(os.getpid(), signal.SIGTERM)": (15, ""),
}


def check_words(end: End, words: str) -> None:
    """Check that stderr is empty, or has the one traceback that is the user's own."""
    if words:
        assert end.err.startswith("Traceback")
        assert end.err.count("Traceback") == 1, end.err
        assert end.err.splitlines()[-1] == words
    else:
        assert end.err == ""


@each_size("times", short=[1], full=[100], timeout=600)
@pytest.mark.parametrize("state", STATES)
def test_the_interpreter_ends_at_once_and_without_a_word(
    promise: Callable[..., None], venue: FakeVenue, state: str, times: int
) -> None:
    if "deaf" in state:
        venue.fail_handshake("deaf", times)
    ended = threading.Event()

    def feed() -> None:
        while not ended.wait(0.002):
            venue.publish("feed")

    publisher = threading.Thread(target=feed)
    publisher.start()
    url = venue.url
    if "down" in state:
        venue.down()
    took = []
    try:
        # In the loop and in the block, only an exception that leaves it is an end.
        ends = list(ENDS)["within" in state :]
        first = list(STATES).index(state)
        for end in islice(cycle(ends), first, first + times):
            code, words = ENDS[end]
            with Program(START + STATES[state].format(end=NOW + end), url) as program:
                began = float(program.line())
                result = program.end()
            check_words(result, words)
            assert result.code == code
            took.append(result.at - began)
    finally:
        ended.set()
        publisher.join()
    worst = max(took)
    what = f"exit, {state}"
    promise(16, what, f"<= 1 s, no word, {times} times", f"worst {worst:.2f} s", worst <= 1.0)


#: Calls that block, and what the venue leaves undone then.
BLOCKING = {
    "client.recv()": None,
    "client.recv_batch()": None,
    "next(client)": None,
    "list(client)": None,
    "client.subscribe('muted')": None,
    "client.unsubscribe('feed')": None,
    "client.reader('muted')": None,
    "client.on('muted', str)": None,
    "client.request({}, timeout=60)": None,
    "client.send(bytes(20_000_000))": "read",
    "client.close()": "read",
    "wsclient.connect(url)": "answer",
}


@each_size("times", short=[1], full=[100], timeout=600)
@pytest.mark.parametrize("call", BLOCKING)
def test_ctrl_c_in_a_blocked_call_ends_the_program_at_once(
    promise: Callable[..., None], venue: FakeVenue, call: str, times: int
) -> None:
    took = []
    for _ in range(times):
        venue.mute_acks(False)
        source = START + OPEN + f"strike(signal.SIGINT)\n{call}"
        with Program(source, venue.url) as program:
            peer = venue.accept(20)
            venue.wait_for(lambda venue: venue.subscribers("feed"), 20)
            venue.mute_acks()
            if BLOCKING[call] == "read":
                peer.stop_reading()
            elif BLOCKING[call] == "answer":
                venue.fail_handshake("deaf")
            venue.publish("feed")
            began = float(program.line())
            result = program.end()
            peer.start_reading()
            peer.wait_closed()
        check_words(result, "KeyboardInterrupt")
        assert result.code == -2
        took.append(result.at - began)
    worst = max(took)
    what = f"Ctrl-C in {call}"
    promise(16, what, f"<= 1 s, no word, {times} times", f"worst {worst:.2f} s", worst <= 1.0)
