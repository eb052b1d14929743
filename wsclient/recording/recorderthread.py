"""The thread that writes what a client's tap has noted into files."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from wsclient.books.keeper import LiveBook
from wsclient.errors import ConfigurationError
from wsclient.events import Closed, Event, RecorderFailed, RecorderLost, RecorderRecovered
from wsclient.recording.files import Files, finish_orphans, last_end
from wsclient.recording.records import End, Frame, Kind, Lost, decode, encode
from wsclient.recording.states import (
    CopiedBook,
    StateRows,
    book_record,
    books_of,
    copy_state,
    is_current,
    state_record,
)
from wsclient.recording.tap import ENTRY, Buffer, Happening
from wsclient.recording.transcript import Transcript
from wsclient.runtime.core import Core
from wsclient.telemetry.stats import RecorderStats
from wsclient.threads.forking import watch
from wsclient.threads.waiting import NEVER, Deadline, Waiter
from wsclient.threads.weak import WeakGroup
from wsclient.threads.workers import WorkerThread, join, launch
from wsclient.transport.masking import Mask

__all__ = ["RecorderThread"]

#: How long (s) the thread sleeps while messages come: it is woken for none of them.
NAP = 0.02
#: How often (s) a book is looked at that could not be copied, and for how long.
LOOK, PATIENCE = 0.05, 30.0
#: The delay (s) before another attempt to write, doubled each time up to the second, and after how
#: many attempts another file is begun.
FIRST_DELAY, MAX_DELAY, ATTEMPTS = 0.1, 5.0, 3
#: How long (s) a recorder that has ended goes on trying when nothing can be written.
GIVE_UP = 10.0
#: How long (s) a recorder waits for those before it whose clients end.
HANDOVER = 2.0
#: The most entries that are taken out before the time is looked at.
AT_ONCE = 1000


class GaveUp(Exception):
    """The recorder was closed while nothing could be written, or while it finished old files."""


class RecorderThread:
    """The thread of one recorder, and what it shares with others."""

    def __init__(
        self,
        core: Core,
        files: Files,
        *,
        session: str,
        buffer_bytes: int,
        chunk_seconds: float,
        sync_seconds: float | None,
        state_seconds: float,
    ) -> None:
        self.core = core
        self.files = files
        self._session = session
        self._clock = core.clock
        self._chunk_seconds = chunk_seconds
        self._sync_seconds = float("inf") if sync_seconds is None else sync_seconds
        self._state_seconds = state_seconds
        self._wakeups: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._wake = partial(self._wakeups.put, None)
        self.buffer = Buffer(
            buffer_bytes, core.clock, self._wake, partial(core.posts.put, self._losing)
        )
        mask = core.mask
        self._mask: Callable[[str], str] = mask.whole if isinstance(mask, Mask) else mask
        begun = round(core.clock.monotonic() * 1e9)
        self._transcript = Transcript(self._add, self._mask, begun)
        self.thread = WorkerThread("wsclient-recorder", self._run)
        #: Settled when it records, or cannot.
        self.begun = Waiter()
        #: True once it was asked to end, once nothing more is put into the buffer, and once the
        #: thread has ended.
        self.is_asked = self.is_ending = self.is_over = False
        #: Nobody has got it: the call that was to return it was interrupted.
        self._is_cancelled = False
        #: When to give up writing, once it is ending.
        self._gives_up = NEVER
        #: Why nothing can be written at present.
        self.error = ""
        #: What had been lost (messages, frames) at the end of the last trouble, and whether a write
        #: has failed since. Used by the thread only.
        self._lost_before = (0, 0)
        self._has_failed = False
        #: The errors that were reported of entries that no record can hold.
        self._reported: set[type[Exception]] = set()
        # Used by the thread only. Times are monotonic s.
        self._chunk_at = self._sync_at = float("inf")
        self._state_at = 0.0
        self._is_state_asked = False
        self._books: list[LiveBook] = []
        self._books_until = 0.0
        self._listener = self._happened
        watch(self)

    # For any thread.

    def begin(self) -> None:
        """Begin to record. Call :meth:`cancel` if this raises, even if it is an interrupt.

        A client that was just let go, such as that of the cell's last run, may still be recorded
        into the folder. Its recording ends first, so that the two do not overlap in time.
        """
        if not self.core.locks.is_held:  # else this call has interrupted wsclient itself
            deadline = Deadline(HANDOVER)
            for other in running.all():
                if other.core.is_ending_soon and other.files.folder == self.files.folder:
                    join(other.thread, deadline)
        # The thread makes the file and attaches itself: no interrupt can leave that half done.
        launch(self.thread)
        self.begun.wait()

    def attach(self) -> None:
        """Begin to take notes. Runs on the watchdog thread."""
        core = self.core
        with core.lock:
            core.supervisor.life.check()
            if core.tap is not None:
                raise ConfigurationError(
                    "the client is being recorded already; close that recorder first"
                )
            core.tap = self.buffer
            core.recorder = self
            for connection_id, login in core.reception.logins():
                self.buffer.opened(connection_id, login)
            self._put_state()
            core.event_hub.tap = self._listener
        running.add(self)

    def detach(self) -> None:
        """Take no more notes. Runs on the watchdog thread or the recorder's own."""
        core = self.core
        if core.is_forked:
            return
        self._give_up_by(Deadline(GIVE_UP))
        with core.lock:
            if core.event_hub.tap is self._listener:
                core.event_hub.tap = None
            if core.tap is self.buffer:
                core.tap = None
                self.buffer.open()
        self.is_ending = True
        self._wake()

    def ask(self, deadline: Deadline) -> None:
        """Ask it to end. Takes no lock, so it may be called anywhere."""
        if self.core.is_forked:
            return
        self._give_up_by(deadline)
        self.is_asked = True
        # Whichever is free: one may wait for a hook of the dialect, the other for the disk.
        self.core.posts.put(self.detach)
        self._wake()

    def cancel(self) -> None:
        """Ask it to end, and to leave no file."""
        self._is_cancelled = True
        self.ask(Deadline(0.0))

    def close(self, timeout: float | None) -> None:
        deadline = Deadline(self.core.options.close_timeout if timeout is None else timeout)
        self.ask(deadline)
        if not self.core.is_forked and not self.core.locks.is_held:
            join(self.thread, deadline)  # else this call has interrupted wsclient itself

    def _give_up_by(self, deadline: Deadline) -> None:
        self._gives_up = min(self._gives_up, deadline, key=lambda d: d.at)

    def join(self, deadline: Deadline) -> bool:
        self._give_up_by(deadline)
        self._wake()
        return join(self.thread, deadline)

    def stats(self) -> RecorderStats:
        files, transcript, buffer = self.files, self._transcript, self.buffer
        return RecorderStats(
            frames=transcript.frames,
            messages=transcript.messages,
            bytes=transcript.bytes,
            written_bytes=files.size,
            lost_frames=buffer.lost_frames,
            lost_messages=buffer.lost_messages,
            files=files.count,
            buffered_bytes=buffer.buffered,
            path=str(files.path),
            error=self.error,
            is_closed=self.is_over,
        )

    def forked(self) -> None:
        """Write nothing in a child process."""
        self.is_ending = self.is_over = True
        self.files.forked()

    def _happened(self, event: Event) -> None:
        self.buffer.happened(event, self.core.supervisor.fleet.root(event.connection_id))

    def _put_state(self) -> None:
        """Note the client's state. Called under the core's lock."""
        self.buffer.put_state(copy_state(self.core, self.buffer.moment()))

    def _losing(self) -> None:
        """Emit an event when the buffer is full. Runs on the watchdog thread."""
        self.core.emit(RecorderLost, str(self.files.path))

    # The thread.

    def _run(self) -> None:
        try:
            if self._open():
                self._begin()
                while not self._step():
                    pass
                self._end()
        except GaveUp:
            self.files.abandon()
        except BaseException as error:  # noqa: BLE001 - a bug: the client goes on without it
            self.error = type(error).__name__
            self.files.abandon()
            self.core.emit(RecorderFailed, str(self.files.path), error)
        finally:
            if not self.core.is_forked:
                self.detach()
                if self._is_cancelled:
                    self.files.discard()
                self.is_over = True
                if self.core.recorder is self:
                    self.core.recorder = EndedRecorder(self.stats())

    def _open(self) -> bool:
        """Make the first file, and begin to take notes. Return False if that fails."""
        try:
            self.files.open()
            self.core.calls.record(self.attach)
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            self._is_cancelled = True
            self.begun.settle(error)
            return False
        self.begun.settle()
        return True

    def _begin(self) -> None:
        """Say what was missed since the last recorder, and finish the files that were left."""
        folder, metadata, own = self.files.folder, self.files.metadata, self._session[:8]
        has_one, since = last_end(folder, metadata["venue"], metadata["name"], own)
        if has_one:
            self._note_lost("no recorder was running", since)
        with suppress(GaveUp):
            finish_orphans(folder, own, self._between)

    def _between(self) -> None:
        """Go on recording during long work. Raises GaveUp when there is no time for that."""
        self._take_out()
        if self.is_asked or self.is_ending:
            raise GaveUp

    def _take_out(self) -> int:
        """Take out what has come, and do what is due. Return how many entries it took."""
        buffer, entries = self.buffer, self.buffer.entries
        taken = 0
        while entries and taken < AT_ONCE:
            entry = entries.popleft()
            self._take(entry)
            buffer.taken += entry.charge
            taken += 1
        self._look(self._clock.monotonic())
        return taken

    def _step(self) -> bool:
        """Take out what has come. Return whether that was the last time."""
        buffer, entries = self.buffer, self.buffer.entries
        if self.is_asked and not self.is_ending:
            self.detach()
        is_last = self.is_ending  # read first: nothing comes after it
        taken = self._take_out()
        if entries:
            return False
        if taken:
            self._sleep(NAP)
            return False
        if is_last:
            return True
        buffer.is_idle = True
        if not entries and not self.is_asked and not self.is_ending:
            self._sleep(self._timeout(self._clock.monotonic()))
        buffer.is_idle = False
        return False

    def _sleep(self, timeout: float) -> None:
        try:
            self._wakeups.get(timeout=min(timeout, threading.TIMEOUT_MAX))
        except (queue.Empty, ValueError):
            pass

    def _timeout(self, now: float) -> float:
        due = min(self._chunk_at, self._sync_at, self._state_at)
        if self._books:
            due = min(due, now + LOOK)
        if not self._is_state_asked:
            due = min(due, now + self.files.due_in())
        return max(0.0, due - now)

    def _take(self, entry: Any) -> None:
        if isinstance(entry, StateRows):
            self._take_state(entry)
        elif isinstance(entry, CopiedBook):
            self._transcript.note(book_record(entry, self._mask), entry.moment.time)
        else:
            try:
                self._transcript.take(entry)
            except GaveUp:
                raise
            except Exception as error:  # noqa: BLE001 - a dialect may make anything
                self._unwritable(error)
            if isinstance(entry, Happening) and isinstance(entry.event, Closed):
                self.detach()

    def _unwritable(self, error: Exception) -> None:
        """Note that no record can hold an entry."""
        if type(error) not in self._reported:
            self._reported.add(type(error))
            self.core.emit(RecorderFailed, str(self.files.path), error)
        why = f"it could not be recorded ({type(error).__name__})"
        self._note_lost(why, self._transcript.last)

    def _take_state(self, rows: StateRows) -> None:
        self._is_state_asked = False
        if self.files.is_due():
            self._persist(self.files.finish)
            self._persist(self.files.open)
        now = self._clock.monotonic()
        self._state_at = now + self._state_seconds
        self._transcript.note(state_record(rows, self._mask), rows.moment.time)
        self._books, self._books_until = books_of(self.core), now + PATIENCE

    def _look(self, now: float) -> None:
        """Do what is due."""
        if now >= self._chunk_at:
            self._end_chunk()
        if now >= self._sync_at:
            self._sync_at = float("inf")
            self._persist(self.files.sync)
        is_quiet = self._is_state_asked or self.is_ending
        if not is_quiet and (now >= self._state_at or self.files.is_due()):
            self._is_state_asked, self._state_at = True, float("inf")
            with self.core.lock:
                self._put_state()
        if self._books and not self._is_state_asked:
            self._copy_books(now)
        if not self.buffer.is_shut and (self._has_failed or self._lost != self._lost_before):
            self._recovered()

    def _copy_books(self, now: float) -> None:
        left = []
        for live in self._books:
            copy = live.copied()
            with self.core.lock:
                is_taken = copy is not None and is_current(self.core, live.channel, copy)
                if is_taken and copy is not None:
                    moment = self.buffer.moment()
                    entry = CopiedBook(ENTRY, moment, live.channel, live.options, copy)
                    self.buffer.put(entry)
            if not is_taken and not live.is_lost:
                left.append(live)
        self._books = left if now < self._books_until else []

    # Writing.

    def _add(self, kind: Kind, topic: str, time: int, data: bytes) -> None:
        if kind == "channel" and not self.files.has_room(topic):
            frame = decode(kind, data)
            for part in frame.parts if isinstance(frame, Frame) else ():
                part.channel = topic
            kind, topic, data = "frames", "frames", encode(frame)
        if not self.files.has_buffered:
            self._chunk_at = self._clock.monotonic() + self._chunk_seconds
        if self.files.add(kind, topic, time, data):
            self._end_chunk()

    def _end_chunk(self) -> None:
        self._chunk_at = float("inf")
        self._persist(self.files.end_chunk)
        self._sync_at = min(self._sync_at, self._clock.monotonic() + self._sync_seconds)

    def _persist(self, write: Callable[[], None]) -> None:
        """Call ``write`` until it raises no OSError. Raises GaveUp when the recorder is closed."""
        delay, attempts = FIRST_DELAY, 0
        while True:
            try:
                write()
            except OSError as error:
                self._failed(error)
            else:
                self.error = ""
                return
            if self.is_ending and not self._gives_up.remaining():
                raise GaveUp
            self._sleep(min(delay, self._gives_up.remaining()))
            delay, attempts = min(2 * delay, MAX_DELAY), attempts + 1
            if attempts % ATTEMPTS == 0:
                self._replace()

    def _replace(self) -> None:
        """Begin another file, as the present one cannot be written."""
        is_removed, began_at = self.files.is_removed, self.files.began_at
        try:
            self.files.replace()
        except OSError as error:
            self._failed(error)
            return
        self._state_at = 0.0
        if is_removed:
            self._note_lost("a file of the recording was removed", began_at)

    def _note_lost(self, why: str, since: int | None) -> None:
        moment = self.buffer.moment()
        record = Lost(at=moment.at, why=why, since=since, is_unknown=True)
        self._transcript.note(record, moment.time)

    def _failed(self, error: OSError) -> None:
        is_new, self.error = not self.error, error.strerror or str(error)
        self._has_failed = True
        if is_new:
            self.core.emit(RecorderFailed, str(self.files.path), error)

    @property
    def _lost(self) -> tuple[int, int]:
        return self.buffer.lost_messages, self.buffer.lost_frames

    def _recovered(self) -> None:
        now, before = self._lost, self._lost_before
        self._lost_before, self._has_failed = now, False
        messages, frames = now[0] - before[0], now[1] - before[1]
        self.core.emit(RecorderRecovered, str(self.files.path), messages, frames)

    def _end(self) -> None:
        self._transcript.end()
        moment = self.buffer.moment()
        self._transcript.note(End(at=moment.at), moment.time)
        self._persist(self.files.finish)


class EndedRecorder:
    """What a client keeps of a recorder that has ended."""

    def __init__(self, stats: RecorderStats) -> None:
        self._stats = stats

    def stats(self) -> RecorderStats:
        return self._stats

    def join(self, deadline: Deadline) -> bool:
        return True


#: The recorders of this process.
running: WeakGroup[RecorderThread] = WeakGroup()
