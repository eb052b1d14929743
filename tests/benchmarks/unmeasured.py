"""A copy of the client without the accounting of statistics, to tell what that costs."""

from __future__ import annotations

import shutil
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "wsclient"

#: Module: each line that counts or measures on the way of a message, and what is there instead.
EDITS = {
    "sansio/recovery.py": {
        "                    break\n"
        "                tracker.counted += 1\n": "                    break\n",
    },
    "sansio/session.py": {"        self.counters.messages += len(messages)\n": ""},
    "runtime/watchdog.py": {
        "            session.count(len(payloads), size, now)\n": "",
        "            messages = session.ordinary(connection_id, batch, now)\n"
        "            sample = self._sampled(messages, now)\n": (
            "            messages = session.ordinary(connection_id, batch, now)\n"
            "            sample = None\n"
        ),
    },
    "runtime/mailbox.py": {
        "        self._measure(self._queue)\n": "",
        "        self._measure(self._latest.values())\n": "",
    },
}


def make(tree: Path) -> None:
    """Put it into a directory, for the path of Python. Raises ValueError where a line is not there
    any more."""
    shutil.copytree(PACKAGE, tree / "wsclient", ignore=shutil.ignore_patterns("__pycache__"))
    for module, edits in EDITS.items():
        path = tree / "wsclient" / module
        text = path.read_text("utf-8")
        for old, new in edits.items():
            if text.count(old) != 1:
                raise ValueError(f"{module} has not, or not once: {old.strip()!r}")
            text = text.replace(old, new)
        path.write_text(text, "utf-8")
