"""Log records that say which client, connection and channel they are about.

A user's handler, filter or record factory may raise, block, or call back into the client. So of all
our threads they run only on ``wsclient-log``, one per process. The thread that logs only captures
the entry and puts it into a queue. ``wsclient-log`` makes the record, with the time, thread and
exception of its origin, and hands it to the logger. There a handler may make any call, even a
blocking one: it holds up nothing but the log.

There are two exceptions, in which the thread that logs makes the record, guarded in the same way:

* While pytest runs a test in this process, so that ``caplog`` has each record at once. A handler
  that blocks then blocks the thread that logs. ``monkeypatch.delenv("PYTEST_CURRENT_TEST")`` at
  the start of a test makes the log use its thread, and :func:`flush` waits for the records.
* In a forked child, where the parent's thread does not exist.

At the interpreter's exit the records have :data:`FLUSH` seconds; after that nothing is logged. A
handler that blocks for ever within ``emit`` still blocks the exit: ``logging.shutdown`` waits for
its lock.

A record is not logged if :data:`LIMIT` records are already waiting, or if a handler or filter
raises. Records of level DEBUG have a limit of their own, :data:`DEBUG_LIMIT`: frames, which may be
many, do not displace others. Records that are not logged are counted. A record with their number
comes before the next record, at most once per second, and at :func:`flush`. If a record factory
raises, a plain LogRecord is logged instead.

If the program has configured no logging, Python prints an *alarm* on stderr, by its
``logging.lastResort``, and no other record (:class:`_Unconfigured`).
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

from wsclient.threads.forking import watch
from wsclient.threads.waiting import Deadline, acquire
from wsclient.threads.workers import launch

__all__ = ["ClientLog", "LogThread", "debugs_frames", "flush", "log_thread", "silence"]

#: The most records that wait. Further ones are dropped and counted.
LIMIT = 1000
#: The same for records of level DEBUG.
DEBUG_LIMIT = 4000
#: The time (s) between two records that say how many were not logged.
REPORT_EVERY = 1.0
#: How long (s) close() and the interpreter's exit wait for the records to be handled.
FLUSH = 0.25

_ExcInfo = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]


class _Queued(NamedTuple):
    """The contents of a record, captured by the thread that logs."""

    logger: str
    level: int
    text: str
    #: Their ``str`` is called when the record is made.
    args: tuple[object, ...]
    fields: dict[str, Any]
    exc_info: _ExcInfo | None
    path: str
    line: int
    function: str
    time_ns: int
    thread: int
    thread_name: str
    is_alarm: bool = False


class _FlushMark(NamedTuple):
    """A mark in the queue: ``done`` is released when all entries before it have been handled."""

    done: threading.Lock
    is_last: bool


class ClientLog:
    """The log of one client.

    Each text begins with the client's name, and each record has the fields ``client``, ``venue``,
    ``connection_id`` and ``channel``; a field without a value is None.

    A call never blocks and never raises. It may come from a signal handler or a finalizer, with any
    lock held.
    """

    def __init__(self, name: str, venue: str) -> None:
        self.name = name
        self.venue = venue
        #: Whether alarms are printed if no logging is configured. False for a client whose caller
        #: reports its failure.
        self.has_alarms = True

    def __call__(
        self,
        level: int,
        text: object,
        *,
        connection_id: int | None = None,
        channel: str | None = None,
        exc_info: bool | BaseException | None = False,
        logger: str = "wsclient",
        depth: int = 1,
        is_alarm: bool = False,
    ) -> None:
        """Log ``text``. The record names the line ``depth`` calls up: by default the caller's.

        The ``str`` of ``text`` is called when the record is made.
        """
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
        args = (self.name, text)
        alarms = is_alarm and self.has_alarms
        depth += 1  # this frame
        log_thread.put(
            _capture(logger, level, "%s: %s", args, fields, found, depth=depth, is_alarm=alarms)
        )


def _capture(
    logger: str,
    level: int,
    text: str,
    args: tuple[object, ...],
    fields: dict[str, Any],
    exc_info: _ExcInfo | None = None,
    *,
    depth: int = 1,
    is_alarm: bool = False,
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
        is_alarm,
    )


def _record(logger: logging.Logger, entry: _Queued) -> logging.LogRecord:
    made_of: tuple[Any, ...] = (
        entry.logger,
        entry.level,
        entry.path,
        entry.line,
        entry.text,
        tuple(map(str, entry.args)),
        entry.exc_info,
        entry.function,
    )
    try:
        return _stamped(logger.makeRecord(*made_of), entry)
    except BaseException as error:  # noqa: BLE001 - the user's record factory
        _let_pass(error)
        return _stamped(logging.LogRecord(*made_of), entry)


def _stamped(record: logging.LogRecord, entry: _Queued) -> logging.LogRecord:
    """Set the values of the origin, and our fields, even if a record factory has set them."""
    created = entry.time_ns / 1e9
    record.relativeCreated += (created - record.created) * 1000
    record.created = created
    record.msecs = entry.time_ns // 1_000_000 % 1000 + 0.0
    if logging.logThreads:
        record.thread, record.threadName = entry.thread, entry.thread_name
    vars(record).update(entry.fields)
    if entry.is_alarm:
        vars(record)[_ALARM] = True
    return record


def _let_pass(error: BaseException) -> None:
    """Raise a KeyboardInterrupt on the main thread: the user's code has not caused that."""
    if isinstance(error, KeyboardInterrupt) and (
        threading.get_ident() == threading.main_thread().ident
    ):
        raise error


class LogThread:
    """The queue of entries to be logged, and the thread ``wsclient-log`` that empties it."""

    def __init__(self) -> None:
        # A SimpleQueue is written in C: a put is atomic, and may come while another is interrupted.
        self._queue: queue.SimpleQueue[_Queued | _FlushMark] = queue.SimpleQueue()
        #: Held by the thread while it runs. If two threads are started at once, the later one ends.
        self._running = threading.Lock()
        self._ident: int | None = None
        self._is_forked = False
        #: Set at the interpreter's exit, which could stop a handler at any point of its work.
        self._is_over = False
        # Several threads count without a lock, since a signal handler may interrupt any of them.
        self._drops, self._failures = count(1), count(1)
        #: The number of DEBUG records put into the queue, and of those taken out of it.
        self._debug_puts = count(1)
        self._debug_put = self._debug_taken = 0
        #: The number of records dropped because the queue was full.
        self.dropped = 0
        #: The number of records for which a handler or a filter raised.
        self.failed = 0
        self._last_error = ""
        #: ``dropped`` and ``failed`` at the last report.
        self._reported = (0, 0)
        self._report_at = 0.0
        watch(self)

    @property
    def not_logged(self) -> int:
        """The number of records that were not logged, for any reason."""
        return self.dropped + self.failed

    def put(self, entry: _Queued) -> None:
        """Log ``entry``. Never blocks, except under pytest and in a forked child."""
        if self._is_forked or _is_under_pytest():
            self._log(entry)
        elif self._is_over:
            pass
        elif not self._has_room(entry.level):
            self.dropped = next(self._drops)
        else:
            if entry.level <= logging.DEBUG:
                self._debug_put = next(self._debug_puts)
            self._queue.put(entry)
            self._start()

    def _has_room(self, level: int) -> bool:
        debug = self._debug_put - self._debug_taken
        if level <= logging.DEBUG:
            return debug < DEBUG_LIMIT
        return self._queue.qsize() - debug < LIMIT

    def flush(self, timeout: float = FLUSH, *, is_last: bool = False) -> bool:
        """Wait until all queued entries have been handled, at most ``timeout`` seconds.

        Returns whether they have been. In a handler, on the log's own thread, it does not wait.
        """
        if threading.get_ident() == self._ident:
            return self._queue.empty()
        if self._queue.empty() and not self._running.locked():
            return True
        if not self._start():
            return False
        done = threading.Lock()
        done.acquire()
        self._queue.put(_FlushMark(done, is_last))
        return acquire(done, Deadline(timeout))

    def end(self) -> None:
        """Flush, and log nothing after that."""
        self.flush(is_last=True)
        self._is_over = True

    def forked(self) -> None:
        """Drop the queue in a child process: it is the parent's, and the thread is not there."""
        self._is_forked = True
        self._ident = None
        self._running = threading.Lock()
        self._queue = queue.SimpleQueue()
        self._debug_taken = self._debug_put

    def _start(self) -> bool:
        """Start the thread unless it runs.

        Returns False if the system cannot start one. Then the entries wait, and the next one tries
        again.
        """
        if not self._running.locked():
            try:
                launch(threading.Thread(name="wsclient-log", target=self._run, daemon=True))
            except Exception:  # noqa: BLE001 - ThreadStartError, or MemoryError
                return False
        return True

    def _run(self) -> None:
        running = self._running  # a fork on this thread replaces the attribute
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
        # A separate function: while the thread waits, no frame keeps the last record alive.
        item = self._queue.get()
        if isinstance(item, _Queued):
            if item.level <= logging.DEBUG:
                self._debug_taken += 1
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
            f"{dropped + failed} records were not logged: {dropped} found too many waiting, "
            f"a handler or filter raised {self._last_error or 'nothing'} for {failed}"
        )
        fields = dict.fromkeys(("client", "venue", "connection_id", "channel"))
        entry = _capture("wsclient", logging.WARNING, "%s: %s", ("wsclient-log", text), fields)
        # If the report itself cannot be logged, it is repeated and not counted.
        if not _handle(entry):
            self._reported = totals


def _handle(entry: _Queued) -> str:
    """Hand ``entry`` to its logger. Return the type of what a handler or filter raised, or ''."""
    try:
        logger = logging.getLogger(entry.logger)
        if logger.isEnabledFor(entry.level):
            logger.handle(_record(logger, entry))
    except BaseException as error:  # noqa: BLE001 - not even SystemExit may end the thread
        _let_pass(error)
        return type(error).__name__
    return ""


def _is_under_pytest() -> bool:
    # A program that a test starts inherits the variable, but has not imported pytest.
    return "PYTEST_CURRENT_TEST" in os.environ and "pytest" in sys.modules


#: The attribute of a record that makes it an alarm.
_ALARM = "_wsclient_alarm"


class _Unconfigured(logging.NullHandler):
    """The handler of the logger ``wsclient``. Without any, logging would print all warnings.

    It passes an alarm to ``logging.lastResort`` if it is the only handler that the record reaches:
    then the program has configured no logging, and nobody would see that the client fails.
    """

    def handle(self, record: logging.LogRecord) -> bool:
        last = logging.lastResort
        if _ALARM in vars(record) and last is not None and record.levelno >= last.level:
            logger: logging.Logger | None = logging.getLogger(record.name)
            while logger is not None:
                if any(handler is not self for handler in logger.handlers):
                    return True
                logger = logger.parent if logger.propagate else None
            last.handle(record)
        return True


_root, _ours = logging.getLogger(), logging.getLogger("wsclient")
_frames = logging.getLogger("wsclient.frames")
_ours.addHandler(_Unconfigured())


def debugs_frames() -> bool:
    """Return whether frames are logged. Each read calls it.

    ``Logger.isEnabledFor`` may take a lock that belongs to all of logging; this takes none.
    """
    level = _frames.level or _ours.level or _root.level
    return level <= logging.DEBUG and not (
        _frames.disabled or _frames.manager.disable >= logging.DEBUG
    )


#: The log thread of this process.
log_thread = LogThread()
atexit.register(log_thread.end)


def flush(timeout: float = FLUSH) -> bool:
    """Wait until all records of this process's clients are handled, at most ``timeout`` seconds.

    Returns whether they are.
    """
    return log_thread.flush(timeout)


def silence(name: str, is_ours: Callable[[], bool]) -> None:
    """Log nothing through the logger ``name`` while ``is_ours()`` is true.

    No record is made then. A filter would be too late: the user's record factory, and filters that
    were added earlier, would already have run.
    """
    logger = logging.getLogger(name)
    is_enabled = logger.isEnabledFor
    logger.isEnabledFor = lambda level: not is_ours() and is_enabled(level)  # type: ignore[method-assign]
