"""The recorder of a client, as its user holds it."""

from __future__ import annotations

import atexit
import json
import os
import secrets
from pathlib import Path
from types import TracebackType

from wsclient.checks import check_duration, check_timeout, check_whole
from wsclient.errors import ConfigurationError
from wsclient.recording.files import Files, Rules
from wsclient.recording.recorderthread import RecorderThread, running
from wsclient.recording.records import VERSION
from wsclient.runtime.core import Core
from wsclient.telemetry.stats import RecorderStats
from wsclient.threads.waiting import Deadline

__all__ = ["Recorder", "new_recorder"]

#: How long (s) the interpreter's exit waits for all recorders.
EXIT = 2.0

MIN_BUFFER = 64 * 1024
MIN_FILE = 64 * 1024


class Recorder:
    """Records a client into the files of a folder; made by :meth:`wsclient.WebSocketClient.record`.

    A context manager, which closes it. It ends with its client, too. It does not keep the client
    alive.
    """

    def __init__(self, writer: RecorderThread) -> None:
        self._writer = writer

    @property
    def is_closed(self) -> bool:
        """True once everything is written and the last file is finished, or cannot be."""
        return self._writer.is_over

    def stats(self) -> RecorderStats:
        """Return its counters as of now."""
        self._writer.core.check_call()
        return self._writer.stats()

    def close(self, timeout: float | None = None) -> None:
        """Stop recording, write what is buffered, and finish the file.

        Waits at most ``timeout`` seconds (default: the client's option ``close_timeout``); the
        rest is written in the background. Idempotent. The client goes on.
        """
        check_timeout(timeout)
        self._writer.close(timeout)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.is_closed else "recording"
        return f"<Recorder {self._writer.files.path.name}: {state}>"


def new_recorder(
    core: Core,
    folder: str | os.PathLike[str],
    *,
    buffer_bytes: int,
    chunk_seconds: float,
    sync_seconds: float | None,
    file_bytes: int,
    file_seconds: float,
    state_seconds: float,
    level: int,
) -> RecorderThread:
    """Return a recorder that has not begun: see :meth:`wsclient.WebSocketClient.record`."""
    check_whole("buffer_bytes", buffer_bytes, MIN_BUFFER)
    check_duration("chunk_seconds", chunk_seconds)
    check_duration("sync_seconds", sync_seconds, or_none=True)
    check_whole("file_bytes", file_bytes, MIN_FILE)
    check_duration("file_seconds", file_seconds)
    check_duration("state_seconds", state_seconds)
    check_whole("level", level, 1)
    if level > 22:
        raise ConfigurationError(f"level must be a whole number from 1 to 22, not {level!r}")
    if not isinstance(folder, (str, os.PathLike)):
        raise ConfigurationError(f"folder must be a path, not {type(folder).__name__}")
    core.calls.check_recordable()
    session = secrets.token_hex(16)
    options = core.options
    metadata = {
        "version": str(VERSION),
        "session": session,
        "venue": core.dialect.name,
        "name": core.log.name,
        "url": core.mask(core.address),
        "options": json.dumps(
            {"decimal": options.decimal, "deliver_unhandled": options.deliver_unhandled}
        ),
    }
    try:
        path = Path(folder).absolute()  # the program may change its folder
    except TypeError:
        raise ConfigurationError("folder must be a path of text, not of bytes") from None
    if "\0" in str(path):
        raise ConfigurationError("folder must not contain a null character")
    return RecorderThread(
        core,
        Files(path, metadata, Rules(file_bytes, file_seconds, level), core.clock),
        session=session,
        buffer_bytes=buffer_bytes,
        chunk_seconds=chunk_seconds,
        sync_seconds=sync_seconds,
        state_seconds=state_seconds,
    )


@atexit.register
def end_all() -> None:
    """Write what is buffered, at the interpreter's exit."""
    deadline = Deadline(EXIT)
    found = running.all()
    for writer in found:
        writer.ask(deadline)
    for writer in found:
        writer.join(deadline)
