"""Log records that say which client, connection and channel they are about.

A user's handler, filter or record factory may raise, block, or call back into the client. So none
of them runs on a thread of ours but ``wsclient-log``, of which a process has one. Where something
is logged, it is only captured and put into a queue; ``wsclient-log`` makes the record, with the
time, thread and exception of its origin, and hands it to the logger. A handler may make any call
there, blocking ones too: they hold up nothing but the log.

Two exceptions, in which the record is made where it is logged, guarded in the same way:

* While pytest runs a test in this process, so that ``caplog`` has each record at once. A handler
  that blocks there blocks the thread that logs. ``monkeypatch.delenv("PYTEST_CURRENT_TEST")`` at
  the start of a test gives it the thread, and :func:`flush` waits for the records.
* In a forked child: the parent's thread does not live on there.

At the interpreter's exit the records have :data:`FLUSH` seconds; afterwards nothing is logged. A
handler that blocks for ever within ``emit`` holds the exit up nevertheless: ``logging.shutdown``
waits for its lock.

What is not logged is counted: more than :data:`LIMIT` records waiting, or a handler or filter that
raised. A record with the number comes before the next one, at most once per second, and at
:func:`flush`. A record factory that raises loses nothing: a plain LogRecord takes its place.
"""

from __future__ import annotations

import atexit
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from itertools import count
from types import TracebackType
from typing import Any, NamedTuple

from wsclient.runtime.forking import watch
from wsclient.runtime.threads import launch
from wsclient.runtime.waiting import Deadline, acquire

__all__ = ["ClientLog", "LogThread", "flush", "log_thread", "silence"]

#: This many records wait at most; further ones are dropped, and counted.
LIMIT = 1000
#: The time (s) between two records that say how many were not logged.
REPORT_EVERY = 1.0
#: How long (s) close() and the interpreter's exit wait for the records to be handled.
FLUSH = 0.25

_ExcInfo = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]


class _Queued(NamedTuple):
    """All that a record is made of, as captured where it is logged."""

    logger: str
    level: int
    text: str
    args: tuple[str, ...]
    fields: dict[str, Any]
    exc_info: _ExcInfo | None
    path: str
    line: int
    function: str
    time_ns: int
    thread: int
    thread_name: str


class _Mark(NamedTuple):
    """A place in the queue: ``done`` is released when all before it has been handled."""

    done: threading.Lock
    is_last: bool


class ClientLog:
    """Writes one client's log: each text begins with its name, and each record has the fields
    ``client``, ``venue``, ``connection_id`` and ``channel``, None where there is none.

    It never blocks and never raises. It may be called in a signal handler, in a finalizer, and
    whatever locks are held.
    """

    def __init__(self, name: str, venue: str) -> None:
        self.name = name
        self.venue = venue

    def __call__(
        self,
        level: int,
        text: str,
        *,
        connection_id: int | None = None,
        channel: str | None = None,
        exc_info: bool | BaseException = False,
        logger: str = "wsclient",
    ) -> None:
        fields = {
            "client": self.name,
            "venue": self.venue,
            "connection_id": connection_id,
            "channel": channel,
        }
        found: _ExcInfo | None = None
        if isinstance(exc_info, BaseException):
            found = (type(exc_info), exc_info, exc_info.__traceback__)
        elif exc_info:
            found = sys.exc_info()
        log_thread.put(_capture(logger, level, "%s: %s", (self.name, text), fields, found, depth=2))


def _capture(
    logger: str,
    level: int,
    text: str,
    args: tuple[str, ...],
    fields: dict[str, Any],
    exc_info: _ExcInfo | None = None,
    *,
    depth: int = 1,
) -> _Queued:
    frame = sys._getframe(depth)
    code = frame.f_code
    current = threading.current_thread()
    return _Queued(
        logger,
        level,
        text,
        args,
        fields,
        exc_info,
        code.co_filename,
        frame.f_lineno,
        code.co_name,
        time.time_ns(),
        threading.get_ident(),
        current.name,
    )


def _record(logger: logging.Logger, entry: _Queued) -> logging.LogRecord:
    made_of: tuple[Any, ...] = (
        entry.logger,
        entry.level,
        entry.path,
        entry.line,
        entry.text,
        entry.args,
        entry.exc_info,
        entry.function,
    )
    try:
        return _stamped(logger.makeRecord(*made_of), entry)
    except BaseException as error:  # noqa: BLE001 - the user's record factory
        _let_pass(error)
        return _stamped(logging.LogRecord(*made_of), entry)


def _stamped(record: logging.LogRecord, entry: _Queued) -> logging.LogRecord:
    """Set what only the origin knows, and our fields: a record factory may have set them too."""
    created = entry.time_ns / 1e9
    record.relativeCreated += (created - record.created) * 1000
    record.created = created
    record.msecs = entry.time_ns // 1_000_000 % 1000 + 0.0
    if logging.logThreads:
        record.thread, record.threadName = entry.thread, entry.thread_name
    vars(record).update(entry.fields)
    return record


def _let_pass(error: BaseException) -> None:
    """Raise a Ctrl-C, which the user's code on the main thread does not raise by itself."""
    if isinstance(error, KeyboardInterrupt) and (
        threading.get_ident() == threading.main_thread().ident
    ):
        raise error


class LogThread:
    """The queue of what is to be logged, and the thread ``wsclient-log`` that empties it."""

    def __init__(self) -> None:
        # A SimpleQueue is written in C: a put is atomic, and may interrupt another one.
        self._queue: queue.SimpleQueue[_Queued | _Mark] = queue.SimpleQueue()
        #: Held by the thread while it runs. Where two are started at once, the later one ends.
        self._running = threading.Lock()
        self._ident: int | None = None
        self._is_forked = False
        #: Set at the interpreter's exit, whose end would stop a handler anywhere in its work.
        self._is_over = False
        # Several threads count, without a lock: a signal handler may interrupt any of them.
        self._drops, self._failures = count(1), count(1)
        #: How many records found the queue full.
        self.dropped = 0
        #: How many records a handler or filter raised for.
        self.failed = 0
        self._last_error = ""
        #: Both of them at the last report.
        self._reported = (0, 0)
        self._report_at = 0.0
        watch(self)

    @property
    def not_logged(self) -> int:
        """How many records were not logged, for whatever reason."""
        return self.dropped + self.failed

    def put(self, entry: _Queued) -> None:
        """Have ``entry`` logged. Never blocks, but under pytest and in a forked child."""
        if self._is_forked or _is_under_pytest():
            self._log(entry)
        elif self._is_over:
            pass
        elif self._queue.qsize() >= LIMIT:
            self.dropped = next(self._drops)
        else:
            self._queue.put(entry)
            self._start()

    def flush(self, timeout: float = FLUSH, *, is_last: bool = False) -> bool:
        """Wait until all that is queued has been handled, at most ``timeout`` seconds.

        Returns whether it has been. On the thread itself, in a handler, it does not wait.
        """
        if threading.get_ident() == self._ident:
            return self._queue.empty()
        if self._queue.empty() and not self._running.locked():
            return True
        if not self._start():
            return False
        done = threading.Lock()
        done.acquire()
        self._queue.put(_Mark(done, is_last))
        return acquire(done, Deadline(timeout))

    def end(self) -> None:
        """Flush, and log nothing from then on."""
        self.flush(is_last=True)
        self._is_over = True

    def forked(self) -> None:
        """In a child process: the thread is not there, and its queue is the parent's."""
        self._is_forked = True
        self._ident = None
        self._running = threading.Lock()
        self._queue = queue.SimpleQueue()

    def _start(self) -> bool:
        """Start the thread where it does not run. False where the system gives none: the records
        wait, and the next one tries again."""
        if not self._running.locked():
            try:
                launch(threading.Thread(name="wsclient-log", target=self._run, daemon=True))
            except Exception:  # noqa: BLE001 - ThreadStartError, or MemoryError
                return False
        return True

    def _run(self) -> None:
        running = self._running  # a fork on this thread puts another in its place
        if not running.acquire(blocking=False):
            return
        try:
            self._ident = threading.get_ident()
            while not (self._is_over or self._is_forked):
                self._handle_next()
        finally:
            self._ident = None
            running.release()

    def _handle_next(self) -> None:
        # A function of its own: while the thread waits, nothing of the last record is kept alive.
        item = self._queue.get()
        if isinstance(item, _Queued):
            self._log(item)
        else:
            self._report()
            self._is_over = self._is_over or item.is_last
            item.done.release()

    def _log(self, entry: _Queued) -> None:
        if time.monotonic() >= self._report_at:
            self._report()
        error = _handle(entry)
        if error:
            self._last_error = error
            self.failed = next(self._failures)

    def _report(self) -> None:
        """Log how many records were not logged since the last report."""
        totals = (self.dropped, self.failed)
        dropped, failed = (now - then for now, then in zip(totals, self._reported, strict=True))
        if not dropped and not failed:
            return
        self._report_at = time.monotonic() + REPORT_EVERY
        text = (
            f"{dropped + failed} records were not logged: {dropped} found {LIMIT} waiting, "
            f"a handler or filter raised {self._last_error or 'nothing'} for {failed}"
        )
        fields = dict.fromkeys(("client", "venue", "connection_id", "channel"))
        entry = _capture("wsclient", logging.WARNING, "%s: %s", ("wsclient-log", text), fields)
        # A report that cannot be logged either is repeated, and not counted.
        if not _handle(entry):
            self._reported = totals


def _handle(entry: _Queued) -> str:
    """Hand ``entry`` to its logger. Returns the name of what a handler or filter raised, or ''."""
    try:
        logger = logging.getLogger(entry.logger)
        if logger.isEnabledFor(entry.level):
            logger.handle(_record(logger, entry))
    except BaseException as error:  # noqa: BLE001 - SystemExit too must not end the thread
        _let_pass(error)
        return type(error).__name__
    return ""


def _is_under_pytest() -> bool:
    # A program that a test starts inherits the variable, and has not imported pytest.
    return "PYTEST_CURRENT_TEST" in os.environ and "pytest" in sys.modules


#: The process's own.
log_thread = LogThread()
atexit.register(log_thread.end)


def flush(timeout: float = FLUSH) -> bool:
    """Wait until what the clients of this process have logged is handled, at most ``timeout``
    seconds. Returns whether it is."""
    return log_thread.flush(timeout)


def silence(name: str, is_ours: Callable[[], bool]) -> None:
    """Log nothing through the logger ``name`` where ``is_ours()`` is true.

    No record is made there. A filter would come too late: the record factory, and filters that
    were added before it, are the user's and have run.
    """
    logger = logging.getLogger(name)
    is_enabled = logger.isEnabledFor
    logger.isEnabledFor = lambda level: not is_ours() and is_enabled(level)  # type: ignore[method-assign]
