"""What runs: the version, and whether its hottest modules are compiled."""

from __future__ import annotations

from importlib.machinery import ExtensionFileLoader

from wsclient.stream import channel, frames
from wsclient.version import __version__

__all__ = ["running"]


def running() -> str:
    """Return the version of this package and the form in which it runs, for people."""
    modules = (channel, frames)
    compiled = [
        module.__name__.rpartition(".")[2]
        for module in modules
        if module.__spec__ is not None and isinstance(module.__spec__.loader, ExtensionFileLoader)
    ]
    form = "pure Python"
    if compiled:
        form = "compiled" if len(compiled) == len(modules) else f"compiled: {compiled[0]} only"
    return f"wsclient {__version__} ({form})"
