"""A real kernel of Jupyter in a process of its own, and everything that it publishes."""

from __future__ import annotations

import ast
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import nbformat
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_core.utils import run_sync
from nbclient import NotebookClient

#: The longest time (s) that a cell may take on a busy machine.
PATIENCE = 30
#: Stands before what a cell prints for the test.
MARK = "value: "
#: What each kernel imports first.
IMPORTS = "import os, time, threading, wsclient"


class Kernel:
    """A notebook with its kernel. Also listens to what the kernel publishes between the cells."""

    def __init__(self) -> None:
        self._notebook = nbformat.v4.new_notebook()
        self._client = NotebookClient(
            self._notebook, kernel_name="python3", allow_errors=True, timeout=PATIENCE
        )
        self._client.create_kernel_manager()
        # Nobody else can connect to it: a kernel on a port would warn of that, on our stderr.
        self._client.km.transport = "ipc"
        #: All messages that the kernel has published.
        self.published: list[dict[str, Any]] = []

    @contextmanager
    def running(self) -> Iterator[Kernel]:
        with self._client.setup_kernel():
            self._attach()
            try:
                yield self
            finally:
                self._listener.stop_channels()

    def _attach(self) -> None:
        """Listen to the kernel, and prepare it."""
        info = self._client.km.get_connection_info(session=True)
        wanted = ("transport", "ip", "iopub_port", "shell_port", "session")
        self._listener = BlockingKernelClient(**{name: info[name] for name in wanted})
        self._listener.start_channels(shell=False, stdin=False, hb=False, control=False)
        while True:  # what is published before the listener is connected does not reach it
            self.run(IMPORTS)
            try:
                self.published.append(self._listener.get_iopub_msg(timeout=0.1))
                break
            except queue.Empty:
                pass
        self.pid = self.value("os.getpid()")

    def run(self, source: str, cell: str | None = None) -> Any:
        """Run a cell to its end, and return it. ``cell`` is the id that a notebook would give."""
        found = nbformat.v4.new_code_cell(source)
        self._notebook.cells.append(found)
        self._client.kc.session.metadata = {} if cell is None else {"cellId": cell}
        self._client.execute_cell(found, len(self._notebook.cells) - 1)
        return found

    def value(self, expression: str) -> Any:
        """Return the value of an expression, which is a literal of Python."""
        # In one piece: two would be two messages, if something is published in between.
        cell = self.run(f"print({MARK!r} + repr({expression}) + '\\n', end='')")
        text = "".join(output.text for output in cell.outputs)
        return ast.literal_eval(text.removeprefix(MARK).strip())

    def interrupt(self, when: Callable[[], object], source: str) -> tuple[Any, float]:
        """Run a cell, and interrupt it when ``when()`` has returned, on another thread.

        Returns the cell and the time of the interrupt (s since the epoch).
        """
        times = []

        def strike() -> None:
            when()
            threading.Event().wait(0.05)  # until the call blocks, most often
            times.append(time.time())
            os.kill(self.pid, signal.SIGINT)

        thread = threading.Thread(target=strike)
        thread.start()
        cell = self.run(source)
        thread.join()
        return cell, times[0]

    def restart(self) -> None:
        self._listener.stop_channels()
        run_sync(self._client.km.restart_kernel)(now=True)
        run_sync(self._client.kc.wait_for_ready)(timeout=PATIENCE)
        self._attach()

    def listen(self, until: Callable[[dict[str, Any]], bool]) -> None:
        """Take what the kernel publishes, until a message for which ``until`` is true."""
        deadline = time.monotonic() + PATIENCE
        while True:
            message = self._listener.get_iopub_msg(timeout=max(0.0, deadline - time.monotonic()))
            self.published.append(message)
            if until(message):
                return

    def listen_to_the_end(self) -> None:
        """Take all that the kernel has published so far."""
        number = len(self._notebook.cells)
        assert self.value(str(number)) == number
        self.listen(lambda message: message["content"].get("text") == f"{MARK}{number}\n")

    def printed(self) -> list[str]:
        """Return all that was printed so far, apart from the values that a test has asked for."""
        self.listen_to_the_end()
        texts = [m["content"]["text"] for m in self.published if m["msg_type"] == "stream"]
        return [text for text in texts if not text.startswith(MARK)]
