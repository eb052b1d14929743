"""Row 13: an nginx that cuts idle connections, and a network that loses packets."""

from __future__ import annotations

import contextlib
import random
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import wsclient
from support.helpers import LOCALHOST, client_context, until
from support.matrix import each_size
from support.network import Losses, dial, dropping, own_network
from support.oracle import check_numbered_gaps, check_prefixes, is_market_data, wait_for_channels
from wsclient.testing import FakeVenue

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
needs_nginx = pytest.mark.skipif(NGINX is None, reason="needs nginx")

CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {certificate};
        ssl_certificate_key {certificate};
        location / {{
            proxy_pass http://127.0.0.1:{venue};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
            proxy_read_timeout {read_timeout:.0f}ms;
        }}
    }}
}}
"""


@contextlib.contextmanager
def nginx(folder: Path, venue: FakeVenue, read_timeout: float) -> Iterator[str]:
    """Run an nginx that speaks TLS and passes on to ``venue``; yield its URL."""
    assert NGINX is not None
    for _ in range(5):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        configuration = folder / "nginx.conf"
        configuration.write_text(
            CONFIGURATION.format(
                folder=folder,
                port=port,
                certificate=LOCALHOST,
                venue=venue.port,
                read_timeout=read_timeout * 1000,
            )
        )
        errors = folder / "error.log"
        command = [NGINX, "-p", str(folder), "-c", str(configuration), "-e", str(errors)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            try:
                until(lambda: process.poll() is not None or _answers(port))  # noqa: B023
                if process.poll() is None:
                    yield f"wss://127.0.0.1:{port}/"
                    return
            finally:
                process.terminate()
        # Another process was given the port meanwhile.
        assert "in use" in errors.read_text(), errors.read_text()
    raise AssertionError("found no free port")


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


@needs_nginx
@each_size("cuts", short=[3], full=[200], timeout=300)
def test_idle_connections_that_nginx_cuts(
    venue: FakeVenue, promise: Callable[..., None], tmp_path: Path, cuts: int
) -> None:
    """Without pings: the cut is an end of the stream without a close frame."""
    seed = 13
    rng = random.Random(seed)
    channels = ["a", "b", "c"]
    delivered: list[wsclient.Message] = []
    ends: dict[int, str] = {}
    options: dict[str, Any] = {"ssl_context": client_context(), "ping_interval": None}
    with (
        nginx(tmp_path, venue, read_timeout=0.25) as url,
        Losses() as losses,
        dial(url, **options) as client,
    ):
        client.subscribe(*channels)
        for _ in range(cuts):
            peer = wait_for_channels(venue, channels)
            for _ in range(rng.randint(1, 20)):
                venue.publish(rng.choice(channels))
            peer.wait_closed()
            ends[peer.id] = "fin"  # idle before, so everything had gone through
            for _ in range(rng.randint(0, 3)):
                venue.publish(rng.choice(channels))
        wait_for_channels(venue, channels)
        final = {channel: venue.publish(channel) for channel in channels}
        last: dict[str, int | None] = {}
        while any(last.get(channel) != number for channel, number in final.items()):
            delivered += client.recv_batch(timeout=5)
            last.update((message.channel, message.sequence) for message in delivered[-50:])
        stats = client.stats()
        found = losses.all
    check_prefixes(delivered, venue.peers, is_market_data, ends)
    missed = check_numbered_gaps(delivered)
    assert all("without a close frame" in loss.why for loss in found), found
    promise(
        13,
        "nginx cuts idle connections",
        "each gap marked once, with its size; what was sent before is complete",
        f"{stats.disconnects} cuts, {missed} missed, all marked",
        stats.disconnects >= cuts and missed == stats.missed,
    )


class Idle(NamedTuple):
    """Size of a run: clients, how long they are idle (s), and the settings (s)."""

    clients: int
    seconds: float
    read_timeout: float
    ping_interval: float


@needs_nginx
@each_size("idle", short=[Idle(3, 1.5, 1, 0.1)], full=[Idle(20, 60, 10, 3)], timeout=180)
def test_pings_keep_idle_connections_through_nginx(
    venue: FakeVenue, promise: Callable[..., None], tmp_path: Path, idle: Idle
) -> None:
    options: dict[str, Any] = {
        "ssl_context": client_context(),
        "ping_interval": idle.ping_interval,
    }
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(nginx(tmp_path, venue, idle.read_timeout))
        clients = [stack.enter_context(dial(url, n, **options)) for n in range(idle.clients)]
        threading.Event().wait(idle.seconds)
        drops = sum(client.stats().disconnects for client in clients)
    promise(
        13,
        "idle through nginx, with pings",
        f"no drop in {idle.clients} clients x {idle.seconds:g} s",
        f"{drops} drops",
        drops == 0,
    )


@pytest.mark.parametrize("percent", [1, 5, 20])
@each_size("count", short=[100], full=[5_000], timeout=300)
def test_lost_packets(promise: Callable[..., None], percent: int, count: int) -> None:
    """Packets of each direction are lost, from the handshake on.

    TCP repairs the losses, now and then with a silence that is longer than the default timeouts.
    """
    patient = dict.fromkeys(
        ("connect_timeout", "ping_timeout", "stall_timeout", "send_timeout"), 60
    )
    pace = threading.Event()
    lossy = ("-m", "statistic", "--mode", "random", "--probability", str(percent / 100))
    with own_network(), FakeVenue() as venue, dropping(*lossy):
        with dial(venue.url, **patient) as client:
            client.subscribe("a")
            for n in range(count):
                venue.publish("a", text="x" * 1000)
                if n % 10 == 0:
                    pace.wait(0.001)
            got: list[wsclient.Message] = []
            while len(got) < count:
                got += client.recv_batch(timeout=60)
            stats = client.stats()
        drops = stats.disconnects
    promise(
        13,
        f"packet loss {percent} %",
        "complete and in order",
        f"{len(got)} messages, {drops} drops",
        [m.sequence for m in got] == list(range(1, count + 1)) and not any(m.gap for m in got),
    )
