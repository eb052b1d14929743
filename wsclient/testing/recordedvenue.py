"""A venue that a test records once, and then gets from the recording."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Literal, get_args
from urllib.parse import urlsplit

from wsclient import dialects
from wsclient.errors import ConfigurationError
from wsclient.testing.conversations import talk_of, write_talk
from wsclient.testing.conversing import TalkProtocol
from wsclient.testing.faultwords import ReplayFault
from wsclient.testing.journal import Traced
from wsclient.testing.scrubbing import Scrubber
from wsclient.testing.sockets import netloc
from wsclient.testing.venue import FakeVenue

if TYPE_CHECKING:
    from wsclient.testing.passing import PassThrough

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["RecordMode", "RecordedVenue"]

RecordMode = Literal["none", "once", "rewrite"]
"""When a test records: never, if there is no recording, always."""

#: The lock of a folder that is being recorded.
LOCK = ".venue.lock"


class RecordedVenue:
    """A venue at a local `url`: the real one while it is recorded, later the recording.

    ::

        with RecordedVenue("recordings/ticker", "wss://ws.kraken.com/v2", mode="once") as venue:
            client = wsclient.connect(venue.url, dialect="kraken")
            ...
            venue.keep()

    `mode` says when to record. To record, each connection to `url` is passed on to `real_url`, with
    the path and the headers that the client gives; :meth:`keep` writes what has passed. Without it
    nothing is written, and an old recording stays. GETs are passed on to `rest`, and answered from
    the recording, too; `rest_url` stands for it.

    Secrets are not recorded: the texts in `scrub`, the values of fields and parameters whose names
    say so, keys in URLs, and what a login holds. `***` stands for each. Headers are not recorded.

    To replay, the venue says what it said after the same requests. Ids and times in requests may
    differ, and secrets, and the order. A request that the recording does not have ends the
    connection, and stands in `unknown`; the next handshakes are refused. `faults` are added: each
    is a `ReplayFault` or its text. None are added while it records; so with `faults`, it replays a
    recording that another test has made, whatever the `mode` is. Messages come at once,
    or with `speed` 1.0 at the recorded times. Any recording of `client.record()` can be replayed,
    too.

    `dialect` is noted in the recording, for the other tools that read it, and so is the `name` of
    the test. No two names can record into one folder in the same `run`.

    Raises ConfigurationError if there is no recording to replay, or no `real_url` to record, and if
    another test records into the folder; ValueError for arguments that are wrong in themselves.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        real_url: str | None = None,
        *,
        mode: RecordMode = "none",
        rest: str | None = None,
        faults: Iterable[ReplayFault | str] = (),
        scrub: Iterable[str] = (),
        speed: float | None = None,
        dialect: str = "generic",
        name: str = "",
        run: str = "",
    ) -> None:
        if mode not in get_args(RecordMode):
            raise ValueError(f"mode must be none, once or rewrite, not {mode!r}")
        if speed is not None and not speed > 0:
            raise ValueError(f"speed must be above 0, not {speed!r}")
        if isinstance(faults, str):
            faults = [faults]
        self.faults: Sequence[ReplayFault] = [
            ReplayFault.parse(fault) if isinstance(fault, str) else fault for fault in faults
        ]
        self.folder = Path(folder)
        self.real_url = real_url
        self.unknown: list[str] = []
        self._rest = rest
        self._speed = speed
        self._dialect = dialects.find(dialect).name
        self._name, self._run = name, run
        self._scrubber = Scrubber(scrub)
        self._lock: BinaryIO | None = None
        self._passing: PassThrough | None = None
        self._venue: FakeVenue | None = None
        has_one = _has_recording(self.folder)
        self.is_recording = mode == "rewrite" or (mode == "once" and not has_one)
        if self.is_recording and self.faults and has_one and self._is_of_another():
            self.is_recording = False
        if not self.is_recording and not has_one:
            raise ConfigurationError(f"there is no recording in {self.folder}")
        if self.is_recording and real_url is None:
            raise ConfigurationError(
                f"to record into {self.folder}, the address of the venue is needed"
            )

    def __repr__(self) -> str:
        return f"<RecordedVenue {'recording' if self.is_recording else 'replay'} {self.folder}>"

    def __enter__(self) -> RecordedVenue:
        if self.is_recording:
            self._record()
        else:
            self._replay()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _is_of_another(self) -> bool:
        """Return whether another test has written the recording."""
        return talk_of(self.folder).name not in ("", self._scrubber.text(self._name))

    def _record(self) -> None:
        # Imported lazily: they need packages of the extra, and much time.
        from wsclient.recording import container  # noqa: F401 - raises now rather than at the end
        from wsclient.testing.passing import PassThrough

        self._lock = _locked(self.folder)
        try:
            if self._run and _has_recording(self.folder):
                old = talk_of(self.folder)
                if old.run == self._run and old.name != self._scrubber.text(self._name):
                    raise ConfigurationError(
                        f"{old.name} has recorded into {self.folder} in this run: "
                        "each test needs a folder of its own"
                    )
            self._passing = PassThrough(self.real_url or "", self._rest)
        except BaseException:
            self._unlock()
            raise

    def _replay(self) -> None:
        protocol = TalkProtocol(
            talk_of(self.folder),
            faults=self.faults,
            speed=self._speed,
            refused=self._refused,
            refuse_next=lambda status, body: venue.refuse(status, body=body),
        )
        venue = self._venue = FakeVenue(protocol)
        protocol.begin()
        venue.start()

    def _refused(self, text: str) -> None:
        """Note a request that is not recorded, and refuse further connections.

        By its status a client knows that it makes no sense to try again.
        """
        self.unknown.append(self._scrubber.text(text))
        if self._venue is not None:
            self._venue.refuse(403, body=text.partition("\n")[0].encode(), times=1000)

    # What tests use.

    @property
    def url(self) -> str:
        """The address for the client: a local one, with the path of the real one."""
        parts = urlsplit(self.real_url or "")
        path = parts.path or "/"
        return f"ws://{self._netloc}{path}" + (f"?{parts.query}" if parts.query else "")

    @property
    def rest_url(self) -> str:
        """The address that stands for `rest`."""
        return f"http://{self._netloc}"

    @property
    def _netloc(self) -> str:
        if self._passing is not None:
            return netloc(*self._passing.address)
        if self._venue is None:
            raise RuntimeError(f"{self} has not been started: use with")
        return netloc(self._venue.host, self._venue.port)

    @property
    def trace(self) -> deque[Traced]:
        """What has happened last."""
        if self._passing is not None:
            return self._passing.trace
        return deque() if self._venue is None else self._venue.trace

    def keep(self) -> None:
        """End the connections, and write the recording in place of an old one.

        Does nothing for a replay. Raises ConfigurationError if no client has connected, OSError as
        the system does.
        """
        passing = self._passing
        if passing is None:
            return
        passing.close()
        if not passing.passages:
            url = self._scrubber.url(self.url)
            raise ConfigurationError(f"nothing was recorded: no client has connected to {url}")
        self._scrubber.learn_headers(passing.headers)
        self._scrubber.learn_url(self.real_url or "")
        write_talk(
            self.folder,
            passing.passages,
            self._scrubber,
            url=self.real_url or "",
            dialect=self._dialect,
            test=self._name,
            run=self._run,
        )

    def close(self) -> None:
        """End every connection, thread and socket; idempotent."""
        if self._passing is not None:
            self._passing.close()
        if self._venue is not None:
            self._venue.close()
        self._unlock()

    def _unlock(self) -> None:
        lock, self._lock = self._lock, None
        if lock is None:
            return
        path = self.folder / LOCK
        if sys.platform == "win32":
            lock.close()  # an open file cannot be removed there
        with suppress(OSError):
            path.unlink()
        lock.close()
        with suppress(OSError):
            self.folder.rmdir()  # made for the lock only


def _has_recording(folder: Path) -> bool:
    return folder.is_dir() and any(p.name.endswith(".mcap") for p in folder.rglob("*.mcap"))


def _locked(folder: Path) -> BinaryIO:
    """Lock a folder. Raises ConfigurationError if another test has locked it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    while True:
        file = path.open("ab")
        try:
            if sys.platform == "win32":
                file.seek(0)
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its last owner may have removed it between the two lines.
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
            file.close()
        except FileNotFoundError:
            file.close()
        except OSError:
            file.close()
            raise ConfigurationError(
                f"another test records into {folder}: each test needs a folder of its own"
            ) from None
