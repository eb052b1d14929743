"""Ctrl-C at any moment of a replay neither loses a message nor gives one twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.madefiles import MadeRecording

COUNT = 20_000

#: Takes all messages of a recording under a hail of SIGINT. The loop takes messages by C alone, so
#: none is lost between the call that returns it and the list.
PROGRAM = """
import json, os, signal, sys, threading, time
from itertools import chain, repeat, starmap
from operator import attrgetter
import wsclient

client, how = wsclient.open_recording(sys.argv[1]), sys.argv[2]
got, hits, is_over = [], 0, threading.Event()

def strike():
    while not is_over.wait(0.0005):
        os.kill(os.getpid(), signal.SIGINT)

striking = threading.Thread(target=strike, daemon=True)
striking.start()
while not is_over.is_set():
    try:
        if how == "iteration":
            got.extend(client)
        elif how == "collect":
            lists = map(attrgetter("_messages"), starmap(client.collect, repeat((None, 7))))
            got.extend(chain.from_iterable(lists))
        else:
            got.extend(map(client.recv, iter(int, 1)))
        is_over.set()
    except KeyboardInterrupt:
        hits += 1
    except wsclient.ClientClosed:
        is_over.set()
signal.signal(signal.SIGINT, signal.SIG_IGN)
striking.join()
numbers = [(message.channel, message.sequence) for message in got]
print(json.dumps([hits, numbers, client.stats().messages]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="os.kill() ends a process there")
@pytest.mark.parametrize("how", ["iteration", "recv", "collect"])
def test_ctrl_c_loses_and_doubles_nothing(tmp_path: Path, how: str) -> None:
    with MadeRecording(tmp_path, chunk_size=1 << 15) as made:
        for number in range(COUNT):
            channel, sequence = "ab"[number % 2], number // 2
            made.frame({"channel": channel, "type": "market_data", "sequence": sequence})
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), how],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert ran.returncode == 0, ran.stderr
    hits, numbers, counted = json.loads(ran.stdout)
    assert hits > 0
    assert [tuple(each) for each in numbers] == [("ab"[n % 2], n // 2) for n in range(COUNT)]
    assert counted == COUNT
