"""IPython, if the program runs in it: its shell, and the cell that runs. Imports nothing of it."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["CellKey", "cell_of", "notebook_shell", "running_cell", "shell_of"]

#: What identifies a cell: the id that the notebook gave it, else its text.
CellKey = tuple[str, str]


def shell_of() -> Any:
    """Return the IPython shell of this process; None without one."""
    module = sys.modules.get("IPython.core.interactiveshell")
    kind = getattr(module, "InteractiveShell", None)
    return kind.instance() if kind is not None and kind.initialized() else None


def notebook_shell() -> Any:
    """Return the shell if it shows its output in a notebook, not in a terminal; else None."""
    shell = shell_of()
    return shell if getattr(shell, "kernel", None) is not None else None


def running_cell(shell: Any) -> CellKey:
    """Return the cell that runs now."""
    if hasattr(shell, "get_parent"):  # a kernel: the request to run the cell
        parent = shell.get_parent() or {}
        metadata, content = parent.get("metadata") or {}, parent.get("content") or {}
        return _key(metadata.get("cellId"), content.get("code"))
    history = getattr(shell.history_manager, "input_hist_raw", None)
    return _key(None, history[-1] if history else None)


def cell_of(info: Any) -> CellKey:
    """Return the cell that an event of IPython is about."""
    return _key(getattr(info, "cell_id", None), getattr(info, "raw_cell", None))


def _key(cell_id: object, text: object) -> CellKey:
    if isinstance(cell_id, str) and cell_id:
        return "id", cell_id
    return "text", str(text).strip() if text else ""
