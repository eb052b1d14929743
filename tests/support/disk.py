"""A disk for the files of recorders that can be slow, full or gone."""

from __future__ import annotations

import io
import os
import threading
from typing import Any

import pytest

from wsclient.recording import files

__all__ = ["Disk"]

PATIENCE = 10.0


class Disk:
    """Stands for the files of recorders: it can be slow, full or gone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.error: int | None = None
        self.is_free = threading.Event()
        self.is_free.set()
        #: Set while a write waits.
        self.is_waiting = threading.Event()
        disk = self

        class File(io.FileIO):
            def write(self, data: Any) -> int:
                if not disk.is_free.is_set():
                    disk.is_waiting.set()
                    disk.is_free.wait(PATIENCE)
                if disk.error is not None:
                    super().write(data[: len(data) // 2])  # it is torn
                    raise OSError(disk.error, os.strerror(disk.error))
                return super().write(data)

        monkeypatch.setattr(files, "new_file", lambda path: File(path, "xb"))
