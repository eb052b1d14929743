"""Pieces of HTML and pictures: escaped, cut, without anything that reaches the rest of a page."""

from __future__ import annotations

import re
from decimal import Decimal
from html.parser import HTMLParser

import pytest

from wsclient import Check, Diagnosis, Message, html
from wsclient.messages import Gap
from wsclient.picture import DepthBar, Picture, Trend
from wsclient.text import Grid, number_text

HOSTILE = "<script>alert('x')</script>\"&\u202e\x00\n\ud800"
LONG = "word" * 10_000
RAW = HOSTILE.encode(errors="replace") * 1000
#: What would be there on a page of another colour, or load something.
FIXED = re.compile(r"(?i)black|:white\b|#(?:000|fff)\b|#(?:000000|ffffff)|url\(|href|src=")


class Reader(HTMLParser):
    """Collects the tags of a page and its texts, and fails for a tag that is not closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


PICTURE = Picture(
    HOSTILE,
    HOSTILE,
    "bad",
    ((HOSTILE, HOSTILE), ("course", Trend((1.0, 2.0)))),
    (HOSTILE, "size"),
    ((HOSTILE, DepthBar(0.5, is_bid=True)), (LONG, DepthBar(7.0, is_bid=False))),
    980,
    (HOSTILE, LONG),
)
PAGES = {
    "picture": PICTURE.as_html(),
    "message": Message(
        HOSTILE, HOSTILE, raw=HOSTILE.encode(errors="replace") * 1000, gap=Gap(HOSTILE)
    )._repr_html_(),
    "diagnosis": Diagnosis(HOSTILE, (Check(HOSTILE, "failed", 0.1, LONG, HOSTILE),))._repr_html_(),
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_only_harmless_tags_and_no_colour_of_paper_or_ink(name: str) -> None:
    page = PAGES[name]
    allowed = {"div", "b", "span", "table", "tr", "td", "th", "svg", "polyline"}
    assert set(Reader(page).tags) <= allowed
    assert "script>alert" in "".join(Reader(page).texts)
    assert (
        re.search(r"(?i)black|white\b(?!-)|#(?:000|fff)\b|#(?:000000|ffffff)|url\(|href|src=", page)
        is None
    )
    assert page.isprintable()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_long_texts_is_short(name: str) -> None:
    assert len(PAGES[name]) < 10_000


def test_a_text_is_escaped_once() -> None:
    assert html.cut("<") == html.cut(html.cut("<")) == "&lt;"


def test_each_colour_can_be_read_on_light_and_dark_pages() -> None:
    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return float(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])

    for colour in {*html.COLOURS.values()} - {"currentColor"}:
        for paper in ("#ffffff", "#111111", "#1e1e1e"):
            dark, light = sorted((luminance(colour), luminance(paper)))
            assert (light + 0.05) / (dark + 0.05) > 3.7


def test_a_line_goes_from_the_first_value_to_the_last() -> None:
    points = re.findall(r"([\d.]+),([\d.]+)", str(html.sparkline([1.0, 3.0, 2.0])))
    heights = [float(y) for _, y in points]
    assert heights[1] < heights[2] < heights[0]  # down is more
    assert [float(x) for x, _ in points] == sorted(float(x) for x, _ in points)


def test_a_line_of_equal_values_does_not_change_as_it_grows() -> None:
    assert html.sparkline([5.0] * 2) == html.sparkline([5.0] * 60) != ""
    assert html.sparkline([5.0]) == ""
    assert Trend((5.0,) * 2).as_text() == Trend((5.0,) * 60).as_text()


def test_a_picture_as_text() -> None:
    shown = Picture(
        "Client a",
        "open",
        "good",
        (("rate", "1/s"), ("mid", Trend((1.0, 2.0, 1.5)))),
        ("channel", "size"),
        (("a\x1b[2J", "1"), ("b", DepthBar(0.1, is_bid=False))),
        3,
        ("ended",),
    )
    lines = list(shown.as_lines())
    assert lines[0] == "Client a: open"
    assert lines[2].endswith("▁█▅")
    assert lines[-2:] == ["and 3 more", "ended"]
    assert "\x1b" not in "".join(lines)
    assert any(line.endswith("██") for line in lines)


def test_a_table_without_rows_is_not_drawn() -> None:
    assert "<th" not in Picture("a", "idle", "quiet", header=("channel",)).as_html()
    assert "<th" in html.grid(Grid(["a"], []))


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("1E-8", "0.00000001"),
        ("1.50", "1.50"),
        ("1E+999999999", "1E+999999999"),
        ("0E-99999", "0E-99999"),
    ],
)
def test_a_number_has_its_own_digits_unless_there_are_too_many(number: str, text: str) -> None:
    assert number_text(Decimal(number)) == text
