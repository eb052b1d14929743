"""Connections that no client makes: to addresses not tried, and to see an untrusted certificate.

They are made on a thread of their own. The look at a certificate speaks only TLS: no byte of ours
goes over a connection that is not verified.
"""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from wsclient.options import Options
from wsclient.threads.waiting import Deadline
from wsclient.threads.workers import WorkerThread, launch
from wsclient.transport.addresses import Address
from wsclient.transport.dialing import connect_to, open_socket
from wsclient.transport.sockets import Cancellable

__all__ = ["Aside", "Trial"]

#: The most time (s) that each connection made aside may take; with less than MIN_SHARE (s) for it,
#: none is made.
MAX_SHARE = 3.0
MIN_SHARE = 0.05
#: How long (s) to wait at the end for the thread.
GOODBYE = 0.5

_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, which the ssl module does not name


class Trial(NamedTuple):
    """A connection to one of the results of ``getaddrinfo``: how long it took (s), its error."""

    info: Any
    seconds: float
    error: BaseException | None


class Aside:
    """A thread that makes connections of one kind. It ends at the deadline, or with ``close``."""

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._thread: WorkerThread | None = None
        self._opened = Cancellable("given up")
        #: The addresses that were tried.
        self.trials: list[Trial] = []
        #: The fields of the certificate that does not verify, as far as they are known.
        self.certificate: Mapping[str, Any] = {}

    def try_all(self, infos: Sequence[Any]) -> None:
        """Start to connect to each of the addresses, within the time that is left.

        Raises ThreadStartError.
        """
        self._start(partial(self._try_all, infos))

    def look_at_certificate(self, address: Address, options: Options) -> None:
        """Start to fetch the certificate at ``address``, which does not verify.

        Raises ThreadStartError.
        """
        self._start(partial(self._look_at_certificate, address, options))

    def join(self) -> None:
        """Wait for the thread until the deadline."""
        self._join(self._deadline.remaining())

    def close(self) -> None:
        """Shut down the thread's socket, and wait briefly for the thread."""
        self._opened.cancel()
        self._join(GOODBYE)

    def _start(self, work: Callable[[], None]) -> None:
        self._thread = WorkerThread("wsclient-diagnose", work)
        launch(self._thread)

    def _join(self, timeout: float) -> None:
        thread = self._thread
        if thread is not None and thread.ident is not None:  # it may not have started
            thread.join(timeout)

    def _try_all(self, infos: Sequence[Any]) -> None:
        for i, info in enumerate(infos):
            began, error = time.monotonic(), None
            share = min(MAX_SHARE, self._deadline.remaining() / (len(infos) - i))
            if share < MIN_SHARE:
                return
            try:
                connect_to(info, share, self._opened.hold).close()
            except OSError as failure:
                if self._opened.is_cancelled:
                    return
                error = failure.with_traceback(None)
            self.trials.append(Trial(info, time.monotonic() - began, error))

    def _look_at_certificate(self, address: Address, options: Options) -> None:
        """Connect twice, and speak only TLS each time.

        First without verification, to get the certificate; then with trust in nothing but this
        certificate, to get its fields.
        """
        der: bytes | None = None
        with contextlib.suppress(OSError):
            for _ in range(2):
                # With an ssl_context, and wss:// in the address, it returns an SSLSocket.
                sock: Any = open_socket(
                    address,
                    proxy=options.proxy,
                    ssl_context=_trusting(der),
                    deadline=Deadline(min(MAX_SHARE, self._deadline.remaining())),
                    hold=self._opened.hold,
                )
                with sock:
                    der = sock.getpeercert(binary_form=True)
                    self.certificate = sock.getpeercert() or {}


def _trusting(der: bytes | None) -> ssl.SSLContext:
    """Return a context that trusts only this certificate, for any host and at any time.

    Without a certificate it verifies nothing: use it only to see the certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if der is None:
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(cadata=der)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VerifyFlags(_NO_CHECK_TIME)
    return context
