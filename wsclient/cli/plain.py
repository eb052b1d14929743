"""The demo as plain lines, for pipes, files and terminals without colours."""

from __future__ import annotations

from collections.abc import Iterator

from wsclient.cli.board import Board, BoardEvent, Summary, View
from wsclient.text import printable

__all__ = ["PlainView", "summary_lines", "verdict"]


class PlainView(View):
    """A line per second, and a line for each event."""

    def update(self, board: Board) -> None:
        prices = "  ".join(
            f"{row.channel.partition(':')[2].partition('/')[0]} {row.price:,}"
            for row in board.rows.values()
            if row.price is not None and row.channel.startswith("ticker:")
        )
        rate = sum(row.rate(board.elapsed) for row in board.rows.values())
        counts = f"{board.messages:5} messages {rate:3.0f}/s"
        self._print(board.elapsed, f"{board.state:<11}  {counts}  {prices}")

    def event(self, event: BoardEvent) -> None:
        self._print(event.at, f"{'!' if event.kind in ('bad', 'gap') else '*'} {event.text}")

    def finish(self, board: Board, summary: Summary) -> None:
        print()
        for name, value, remark in summary_lines(summary):
            print(f"{name:<12}{value:>9}  {remark}".rstrip())
        print(f"\n{verdict(summary)}", flush=True)

    def _print(self, at: float, text: str) -> None:
        print(f"{at:5.1f} s  {printable(text)}", flush=True)


def summary_lines(summary: Summary) -> Iterator[tuple[str, str, str]]:
    """Yield the name, value and remark of each line of the summary."""
    yield "published", f"{summary.published:,}", "by the venue's own count"
    yield "messages", f"{summary.messages:,}", "delivered to the loop"
    yield "missed", f"{summary.missed:,}", "while the connection was down, and reported as gaps"
    yield "unaccounted", f"{summary.unaccounted:,}", "published - messages - missed"
    yield "gaps", f"{summary.gaps:,}", "messages that carried a gap"
    yield "reconnects", f"{summary.reconnects:,}", ""
    if summary.recovered is not None:
        away = f"the venue was unreachable for {summary.away:,.0f} ms of it"
        yield "recovery", f"{summary.recovered:,.0f} ms", away


def verdict(summary: Summary) -> str:
    """Return the last line of the demo: whether every message is accounted for."""
    if summary.unaccounted:
        return "NOT ACCOUNTED FOR: this is a bug. Please report it with the seed."
    if not summary.is_whole:
        return "Interrupted. Nothing was lost silently so far."
    return "Nothing was lost silently."
