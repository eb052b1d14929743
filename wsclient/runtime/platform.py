"""Checks that clients can work in this process."""

from __future__ import annotations

import sys

from wsclient.errors import ConfigurationError

__all__ = ["check_threads"]


def check_threads() -> None:
    """Raise ConfigurationError if the process's threads do not work as the client needs.

    With eventlet, only the owner of a lock may release it, and a wait blocks all threads. gevent's
    locks and waits work like those of the standard library.
    """
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is not None and patcher.is_monkey_patched("thread"):
        raise ConfigurationError(
            "wsclient cannot run on the threads of eventlet.monkey_patch(): use "
            "eventlet.monkey_patch(thread=False), gevent, or plain threads"
        )
