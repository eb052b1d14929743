"""Texts for logs and errors: bounded, on one line, printable."""

from __future__ import annotations

__all__ = ["EXCERPT", "excerpt", "one_line", "text_of", "why"]

#: How many bytes of a frame go into a log line or an exception's text at most.
EXCERPT = 120


def excerpt(raw: bytes) -> str:
    """Return a printable excerpt of a payload, of at most EXCERPT bytes."""
    text = repr(raw[:EXCERPT])
    return text if len(raw) <= EXCERPT else f"{text}... ({len(raw)} bytes)"


def one_line(text: str) -> str:
    """Return a venue's text for a log: at most 200 characters, without line breaks."""
    if len(text) > 200:
        text = f"{text[:197]}..."
    return "".join(c if c.isprintable() else " " for c in text)


def text_of(error: BaseException) -> str:
    """Return the text of a user's error; the name of its class if it has none, or if it raises."""
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001 - its __str__ is the user's
        text = ""
    return text or type(error).__name__


def why(error: BaseException) -> str:
    """Return the class and the text of a user's error, of at most EXCERPT characters."""
    return f"{type(error).__name__}: {text_of(error)[:EXCERPT]}"
