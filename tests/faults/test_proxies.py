"""Real proxies: other implementations understand our CONNECT and SOCKS5."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

import wsclient
from support.canaries import TOKENS, found_in, secret_options
from support.helpers import until
from wsclient.testing import FakeVenue
from wsclient.transport.dialing import default_ssl_context

USER, PASSWORD = "trader", TOKENS["Proxy"]


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


@contextlib.contextmanager
def serving(command: list[str], port: int) -> Iterator[None]:
    """Run a server until the end of the block; it is ready when it takes connections."""

    def is_ready() -> bool:
        assert process.poll() is None, process.communicate()[0]
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            until(is_ready)
            yield
        finally:
            process.terminate()
            process.communicate(timeout=10)


@contextlib.contextmanager
def tinyproxy(folder: Path, login: bool) -> Iterator[str]:
    program = shutil.which("tinyproxy")
    if program is None:
        pytest.skip("tinyproxy is not installed")
    port = free_port()
    lines = [f"Port {port}", "Listen 127.0.0.1", "Timeout 60", "MaxClients 10", "LogLevel Error"]
    if login:
        lines.append(f"BasicAuth {USER} {PASSWORD}")
    config = folder / "tinyproxy.conf"
    config.write_text("\n".join([*lines, ""]))
    with serving([program, "-d", "-c", str(config)], port):
        yield f"http://{{}}127.0.0.1:{port}"


@contextlib.contextmanager
def dante(folder: Path, login: bool) -> Iterator[str]:
    program = shutil.which("danted") or shutil.which("sockd")
    if program is None:
        pytest.skip("dante is not installed")
    port = free_port()
    config = folder / "danted.conf"
    config.write_text(
        f"logoutput: stderr\ninternal: 127.0.0.1 port = {port}\nexternal: lo\n"
        f"clientmethod: none\nsocksmethod: {'username' if login else 'none'}\n"
        "user.privileged: root\nuser.unprivileged: nobody\n"
        "client pass { from: 127.0.0.0/8 to: 127.0.0.0/8 }\n"
        "socks pass { from: 127.0.0.0/8 to: 127.0.0.0/8 }\n"
    )
    command = [program, "-f", str(config)]
    if login:
        # It asks the system which users may log in: the users are changed for it alone.
        command = [*_with_a_user(folder), *command]
    with serving(command, port):
        yield f"socks5://{{}}127.0.0.1:{port}"


def _with_a_user(folder: Path) -> list[str]:
    """Return a command's prefix that gives it a system with one user that may log in."""
    missing = [tool for tool in ("unshare", "mount", "openssl") if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        pytest.skip("a user for dante's login needs root, unshare, mount and openssl")
    hashing = ["openssl", "passwd", "-6", PASSWORD]
    hashed = subprocess.run(hashing, capture_output=True, text=True, check=True).stdout.strip()
    (folder / "passwd").write_text(
        "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"
        f"{USER}:x:54321:65534::/:/bin/sh\n"
    )
    (folder / "shadow").write_text(f"{USER}:{hashed}:19000:0:99999:7:::\n")
    mounts = [f"mount --bind {folder}/{name} /etc/{name}" for name in ("passwd", "shadow")]
    script = " && ".join([*mounts, 'exec "$@"'])
    alone = ["unshare", "--mount"]
    tried = subprocess.run(
        [*alone, "sh", "-c", script, "sh", "true"], capture_output=True, check=False
    )
    if tried.returncode:
        pytest.skip("mounts are not allowed here")
    return [*alone, "sh", "-c", script, "sh"]


PROXIES = {"tinyproxy": tinyproxy, "dante": dante}
each_proxy = pytest.mark.parametrize("name", PROXIES)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls_venue(authority: trustme.CA) -> Iterator[FakeVenue]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with FakeVenue(ssl_context=context) as venue:
        yield venue


@each_proxy
@pytest.mark.parametrize("login", [False, True], ids=["open", "login"])
def test_a_stream_goes_through_and_comes_back_after_a_drop(
    name: str,
    login: bool,
    tls_venue: FakeVenue,
    authority: trustme.CA,
    tmp_path: Path,
) -> None:
    trust = default_ssl_context()
    authority.configure_trust(trust)
    with PROXIES[name](tmp_path, login) as proxy:
        proxy = proxy.format(f"{USER}:{PASSWORD}@" if login else "")
        options = {"ssl_context": trust, "retry_delay": 0.01, **secret_options()}
        with wsclient.connect(tls_venue.url, proxy=proxy, **options) as client:
            client.subscribe("a")
            for count in (1, 2):
                tls_venue.wait_for(lambda venue: venue.subscribers("a"))
                tls_venue.publish("a", price=count)
                assert client.recv(timeout=5).data["price"] == count
                tls_venue.live[0].rst()
                until(lambda count=count: client.stats().connects > count)
            assert found_in(repr(client)) == []


@each_proxy
@pytest.mark.parametrize("given", ["", f"{USER}:wrong@"], ids=["no login", "wrong password"])
def test_a_login_that_is_refused_is_reported_without_the_password(
    name: str, given: str, venue: FakeVenue, tmp_path: Path
) -> None:
    with PROXIES[name](tmp_path, login=True) as proxy:
        with pytest.raises(wsclient.ConnectError, match="the proxy refused") as caught:
            wsclient.connect(venue.url, proxy=proxy.format(given), max_retries=1)
        assert "wrong" not in str(caught.value)
    assert venue.attempts == 0


@each_proxy
def test_a_venue_that_is_down_is_reported(name: str, venue: FakeVenue, tmp_path: Path) -> None:
    venue.down()
    with (
        PROXIES[name](tmp_path, login=False) as proxy,
        pytest.raises(wsclient.ConnectError, match="the proxy refused"),
    ):
        wsclient.connect(venue.url, proxy=proxy.format(""), max_retries=1)
