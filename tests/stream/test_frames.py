"""The frame parser: every rule of the RFC, every limit, and any division of the bytes."""

from __future__ import annotations

import codecs
import tracemalloc
from collections.abc import Callable, Iterable
from itertools import product
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Opcode
from websockets.protocol import CLIENT, Protocol

from support.examples import examples
from wsclient.stream.frames import Control, FrameParser, Frames, Violation, parse_close

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
KIB, MIB = 1024, 1024 * 1024
PERMITTED_CODES = {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}

quick = examples(300)


class Frame(NamedTuple):
    """A frame as a server may send it, valid or not."""

    opcode: int
    payload: bytes = b""
    fin: bool = True
    rsv: int = 0
    masked: bool = False
    width: int | None = None  # bits of the length field; None for the shortest
    declared: int | None = None  # the length in the header; None for the payload's

    @property
    def length(self) -> int:
        return len(self.payload) if self.declared is None else self.declared

    @property
    def shortest(self) -> int:
        return 7 if self.length < 126 else 16 if self.length < 65536 else 64

    def header(self) -> bytes:
        width = self.width or self.shortest
        first = self.fin << 7 | self.rsv << 4 | self.opcode
        mark = {7: self.length, 16: 126, 64: 127}[width]
        extended = b"" if width == 7 else self.length.to_bytes(width // 8, "big")
        return bytes([first, self.masked << 7 | mark]) + extended + b"\0\0\0\0" * self.masked

    def wire(self) -> bytes:
        return self.header() + self.payload


class Outcome(NamedTuple):
    """The result of a stream, in a comparable form."""

    messages: list[tuple[int, bytes]]
    controls: list[tuple[int, bytes]]
    code: int | None  # of our close frame after the violation


def outcome(*results: Frames) -> Outcome:
    messages = [
        (BINARY if index in result.binary else TEXT, message)
        for result in results
        for index, message in enumerate(result.messages)
    ]
    controls = [tuple(control) for result in results for control in result.controls]
    violations = [result.violation for result in results if result.violation]
    assert len(violations) <= 1
    return Outcome(messages, controls, violations[0].code if violations else None)


def read(parser: FrameParser, data: bytes, size: int) -> list[Frames]:
    """Pass `data` to the parser as a socket would, at most `size` bytes per read."""
    results = []
    source = memoryview(data)
    while source:
        space = parser.buffer()
        count = min(size, len(space), len(source))
        space[:count] = source[:count]
        source = source[count:]
        results.append(parser.received(count))
    return results


def wire(*frames: Frame) -> bytes:
    return b"".join(frame.wire() for frame in frames)


def feed(*frames: Frame, parser: FrameParser | None = None) -> Frames:
    return (parser or FrameParser()).feed(wire(*frames))


def violation(*frames: Frame, parser: FrameParser | None = None) -> Violation:
    found = feed(*frames, parser=parser).violation
    assert found is not None
    return found


# --- Messages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 2, 125, 126, 127, 4096, 4097, 65535, 65536, 200_000])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_message_of_any_length_class_arrives(opcode: int, length: int) -> None:
    result = feed(Frame(opcode, b"a" * length))
    assert outcome(result) == ([(opcode, b"a" * length)], [], None)


def test_messages_are_bytes_in_the_order_they_came() -> None:
    result = feed(Frame(TEXT, b"one"), Frame(BINARY, b"two"), Frame(TEXT, "drei €".encode()))
    assert result.messages == [b"one", b"two", "drei €".encode()]
    assert {type(message) for message in result.messages} == {bytes}


def test_binary_lists_the_indexes_of_binary_messages() -> None:
    fragmented = [Frame(BINARY, b"c", fin=False), Frame(CONTINUATION, b"d")]
    result = feed(Frame(TEXT, b"a"), Frame(BINARY, b"b"), Frame(TEXT), *fragmented)
    assert result.messages == [b"a", b"b", b"", b"cd"]
    assert result.binary == [1, 3]


def test_feed_counts_binary_indexes_across_buffers() -> None:
    frames = [Frame(TEXT, b"t" * 9000), Frame(BINARY, b"b" * 9000)] * 20
    assert feed(*frames).binary == list(range(1, 40, 2))


def test_fragments_are_joined() -> None:
    result = feed(
        Frame(TEXT, b"a", fin=False), Frame(CONTINUATION, b"b", fin=False), Frame(CONTINUATION)
    )
    assert result.messages == [b"ab"]


def test_control_frames_between_fragments_are_returned_at_once() -> None:
    result = feed(Frame(TEXT, b"a", fin=False), Frame(PING, b"p"), Frame(PONG))
    assert result.messages == []
    assert result.controls == [Control(PING, b"p"), Control(PONG, b"")]


def test_message_continues_after_a_control_frame() -> None:
    result = feed(Frame(TEXT, b"a", fin=False), Frame(PING), Frame(CONTINUATION, b"b"))
    assert result.messages == [b"ab"]


def test_received_shows_what_it_holds() -> None:
    result = feed(Frame(BINARY, b"a"), Frame(PING), Frame(3))
    assert repr(result) == (
        "Frames(binary=[0], controls=[Control(opcode=9, payload=b'')], messages=[b'a'], "
        "violation=Violation(code=1002, reason='unknown opcode 0x3'))"
    )


def test_received_has_no_room_for_other_attributes() -> None:
    with pytest.raises(AttributeError):
        Frames().extra = 1  # type: ignore[attr-defined]


# --- Every header --------------------------------------------------------------------------------

LENGTHS = {  # length, bits of its field
    "7-bit": [(0, 7), (2, 7), (125, 7)],
    "16-bit": [(126, 16), (65535, 16)],
    "64-bit": [(65536, 64)],
    "16-bit too long": [(0, 16), (125, 16)],
    "64-bit too long": [(0, 64), (125, 64), (126, 64), (65535, 64)],
    "high bit": [(1 << 63, 64), ((1 << 64) - 1, 64)],
}


def is_legal(frame: Frame, lengths: str, inside: bool) -> bool:
    """Return whether the frame is legal: the rules, written independently of the parser."""
    control = frame.opcode in (CLOSE, PING, PONG)
    fits_in_the_message = frame.opcode == CONTINUATION if inside else frame.opcode in (TEXT, BINARY)
    return (
        (frame.rsv, frame.masked) == (0, False)
        and (control or fits_in_the_message)
        and (lengths in ("7-bit", "16-bit", "64-bit"))
        and (not control or (frame.fin and lengths == "7-bit"))
    )


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("inside", [False, True], ids=["between messages", "inside a message"])
def test_every_header_is_accepted_or_refused_with_1002(inside: bool, lengths: str) -> None:
    """A frame is refused before its payload; a legal frame gives its message."""
    flags = product(range(16), [False, True], range(8), [False, True])
    for opcode, fin, rsv, masked in flags:
        for length, width in LENGTHS[lengths]:
            frame = Frame(opcode, b"", fin, rsv, masked, width, declared=length)
            parser = FrameParser()
            if inside:
                parser.feed(Frame(BINARY, b"begun ", fin=False).wire())
            if not is_legal(frame, lengths, inside):
                assert outcome(parser.feed(frame.header())) == ([], [], 1002), frame
                continue
            payload = b"\x03\xe8".ljust(length, b"a")[:length] if opcode == CLOSE else b"a" * length
            result = parser.feed(frame.header() + payload)
            if opcode >= CLOSE:
                assert outcome(result) == ([], [(opcode, payload)], None), frame
            elif not fin:
                assert outcome(result) == ([], [], None), frame
            elif inside:
                assert outcome(result) == ([(BINARY, b"begun " + payload)], [], None), frame
            else:
                assert outcome(result) == ([(opcode, payload)], [], None), frame


# --- Violations ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        ([Frame(TEXT, rsv=4)], (1002, "reserved bits 0x40 are set")),
        ([Frame(TEXT, masked=True)], (1002, "a frame is masked")),
        ([Frame(11)], (1002, "unknown opcode 0xb")),
        ([Frame(PING, fin=False)], (1002, "control frame 0x9 is fragmented")),
        ([Frame(PONG, b"a" * 126)], (1002, "control frame 0xa exceeds 125 bytes")),
        ([Frame(0)], (1002, "continuation frame without a message to continue")),
        (
            [Frame(TEXT, fin=False), Frame(BINARY)],
            (1002, "new data frame 0x2 in a fragmented message"),
        ),
        ([Frame(TEXT, b"a", width=16)], (1002, "length 1 is not in its shortest form")),
        ([Frame(TEXT, declared=1 << 63)], (1002, "length has its highest bit set")),
        ([Frame(CLOSE, b"a")], (1002, "close frame of 1 byte")),
        ([Frame(CLOSE, b"\x03\xed")], (1002, "close code 1005 is not permitted on the wire")),
        (
            [Frame(CLOSE, b"\x03\xe8\xff")],
            (1007, "close reason is not UTF-8: byte 0xff, invalid start byte"),
        ),
        (
            [Frame(TEXT, b"a\xff")],
            (1007, "text message is not UTF-8: byte 0xff, invalid start byte"),
        ),
        ([Frame(TEXT, b"a" * 1001)], (1009, "message of 1001 bytes, limit 1000")),
        (
            [Frame(TEXT, fin=False)] + [Frame(CONTINUATION, fin=False)] * 8,
            (1009, "message of more than 8 fragments"),
        ),
    ],
)
def test_violation_names_its_close_code_and_reason(
    frames: list[Frame], expected: tuple[int, str]
) -> None:
    parser = FrameParser(max_message_size=1000, max_fragments=8)
    assert violation(*frames, parser=parser) == expected


def test_messages_before_a_violation_in_the_same_read_are_kept() -> None:
    result = feed(Frame(TEXT, b"good"), Frame(PING), Frame(BINARY, b"x"), Frame(TEXT, b"\xff"))
    assert outcome(result) == ([(TEXT, b"good"), (BINARY, b"x")], [(PING, b"")], 1007)


def test_nothing_is_parsed_after_a_violation_in_the_same_read() -> None:
    result = feed(Frame(TEXT, rsv=1), Frame(TEXT, b"late"), Frame(PING))
    assert outcome(result) == ([], [], 1002)


def test_later_feeds_yield_nothing_and_do_not_repeat_the_violation() -> None:
    parser = FrameParser()
    parser.feed(b"\xff\xff")
    assert outcome(feed(Frame(TEXT, b"late"), parser=parser)) == ([], [], None)
    assert outcome(*read(parser, Frame(PING).wire(), 1)) == ([], [], None)


def test_in_frame_is_false_after_a_violation() -> None:
    parser = FrameParser(max_message_size=10_000)
    parser.feed(Frame(TEXT, b"\xff" * 5000, declared=6000).wire())
    assert not parser.in_frame


# --- Text ----------------------------------------------------------------------------------------

GOOD_TEXT = ["plain", "é", "€uro", "\U0001f600", "\0", "\ufeff", "\uffff", "\ud7ff\ue000"]
BAD_TEXT = [
    b"\x80",
    b"\xff",
    b"\xc0\xaf",  # overlong
    b"\xe0\x80\xaf",
    b"\xed\xa0\x80",  # a surrogate
    b"\xf4\x90\x80\x80",  # past U+10FFFF
    b"ok\xe2\x82",  # cut short
]


def in_two(payload: bytes, cut: int) -> list[Frame]:
    return [Frame(TEXT, payload[:cut], fin=False), Frame(CONTINUATION, payload[cut:])]


@pytest.mark.parametrize("text", GOOD_TEXT)
def test_text_may_be_cut_into_fragments_inside_a_character(text: str) -> None:
    payload = text.encode()
    for cut in range(len(payload) + 1):
        assert feed(*in_two(payload, cut)).messages == [payload]


@pytest.mark.parametrize("payload", BAD_TEXT)
def test_text_that_is_not_utf8_is_refused(payload: bytes) -> None:
    assert violation(Frame(TEXT, payload)).code == 1007


@pytest.mark.parametrize("payload", BAD_TEXT)
def test_fragmented_text_that_is_not_utf8_is_refused(payload: bytes) -> None:
    for cut in range(len(payload) + 1):
        assert violation(*in_two(payload, cut)).code == 1007


def test_bad_text_is_refused_at_its_fragment() -> None:
    assert violation(Frame(TEXT, b"a", fin=False), Frame(CONTINUATION, b"\xff", fin=False))


def test_bad_text_is_refused_before_its_long_frame_is_complete() -> None:
    assert violation(Frame(TEXT, b"\xff", declared=MIB)).code == 1007


def test_incomplete_character_does_not_continue_in_the_next_message() -> None:
    assert outcome(feed(Frame(TEXT, b"\xe2\x82"), Frame(TEXT, b"\xac"))) == ([], [], 1007)


@pytest.mark.parametrize("payload", BAD_TEXT)
def test_binary_and_pings_need_not_be_utf8(payload: bytes) -> None:
    result = feed(Frame(BINARY, payload), Frame(PING, payload))
    assert outcome(result) == ([(BINARY, payload)], [(PING, payload)], None)


# --- Close ---------------------------------------------------------------------------------------


def test_close_frame_sets_code_and_reason() -> None:
    parser = FrameParser()
    payload = b"\x0f\xa1" + "adiós".encode()
    assert feed(Frame(CLOSE, payload), parser=parser).controls == [Control(CLOSE, payload)]
    assert (parser.close_code, parser.close_reason) == (4001, "adiós")


def test_empty_close_frame_reads_as_1005() -> None:
    parser = FrameParser()
    feed(Frame(CLOSE), parser=parser)
    assert (parser.close_code, parser.close_reason) == (1005, "")


def test_close_code_is_none_until_a_close_frame_is_seen() -> None:
    parser = FrameParser()
    feed(Frame(TEXT, b"a"), parser=parser)
    assert (parser.close_code, parser.close_reason) == (None, None)


def test_bad_close_frame_sets_no_close_code() -> None:
    parser = FrameParser()
    result = feed(Frame(CLOSE, b"\x03\xed"), parser=parser)
    assert (parser.close_code, result.controls) == (None, [])


def test_everything_after_a_close_frame_is_discarded() -> None:
    parser = FrameParser()
    frames = [Frame(TEXT, b"a"), Frame(CLOSE), Frame(TEXT, b"late"), Frame(15, rsv=7)]
    assert outcome(feed(*frames, parser=parser)) == ([(TEXT, b"a")], [(CLOSE, b"")], None)
    assert outcome(feed(*frames, parser=parser)) == ([], [], None)
    assert not parser.in_frame


def test_close_frame_may_come_inside_a_fragmented_message() -> None:
    parser = FrameParser()
    feed(Frame(TEXT, b"a", fin=False), Frame(CLOSE, b"\x03\xe9"), parser=parser)
    assert parser.close_code == 1001


def test_close_codes_permitted_on_the_wire() -> None:
    taken = {
        code
        for code in range(65536)
        if not isinstance(parse_close(code.to_bytes(2, "big")), Violation)
    }
    assert taken == PERMITTED_CODES


# --- Limits --------------------------------------------------------------------------------------


def test_message_of_exactly_the_limit_is_accepted() -> None:
    for payload in (b"a" * 100, b"a" * 5000):
        parser = FrameParser(max_message_size=len(payload))
        assert feed(Frame(TEXT, payload), parser=parser).messages == [payload]


@pytest.mark.parametrize("limit", [0, 100, 125, 126, 65535, 65536, 16 * MIB])
def test_frame_above_the_limit_is_refused_at_its_header(limit: int) -> None:
    header = Frame(BINARY, declared=limit + 1).header()
    assert outcome(FrameParser(limit).feed(header)) == ([], [], 1009)


def test_limit_is_16_mib_by_default() -> None:
    assert violation(Frame(TEXT, declared=16 * MIB + 1)).code == 1009
    assert feed(Frame(TEXT, declared=16 * MIB)).violation is None


def test_fragments_above_the_limit_are_refused_at_the_header_that_exceeds_it() -> None:
    parser = FrameParser(max_message_size=10)
    assert feed(Frame(TEXT, b"a" * 9, fin=False), parser=parser).violation is None
    assert violation(Frame(CONTINUATION, declared=2), parser=parser).code == 1009


def test_limit_applies_to_each_message_separately() -> None:
    parser = FrameParser(max_message_size=10, max_fragments=2)
    frames = [Frame(TEXT, b"a" * 5, fin=False), Frame(CONTINUATION, b"a" * 5)]
    assert len(feed(*frames * 3, parser=parser).messages) == 3


def test_control_frames_do_not_count_towards_the_limits() -> None:
    parser = FrameParser(max_message_size=2, max_fragments=2)
    pings = [Frame(PING, b"p" * 125)] * 3
    frames = [Frame(TEXT, b"a", fin=False), *pings, Frame(CONTINUATION, b"b")]
    assert feed(*frames, parser=parser).messages == [b"ab"]


def test_as_many_fragments_as_allowed_are_taken_and_one_more_is_refused() -> None:
    begun = wire(Frame(TEXT, b"a", fin=False), *[Frame(CONTINUATION, b"a", fin=False)] * 131_070)
    last = FrameParser().feed(begun + Frame(CONTINUATION, b"a").wire())
    assert last.messages == [b"a" * 131_072]
    more = FrameParser().feed(begun + wire(Frame(CONTINUATION, fin=False), Frame(CONTINUATION)))
    assert outcome(more) == ([], [], 1009)


# --- The buffer ----------------------------------------------------------------------------------


def fill(parser: FrameParser) -> int:
    """Fill the buffer with empty frames in one read; return its size."""
    space = parser.buffer()
    space[:] = Frame(TEXT).wire() * (len(space) // 2)
    parser.received(len(space))
    return len(space)


def test_buffer_doubles_with_each_read_that_fills_it_up_to_its_maximum() -> None:
    parser = FrameParser(initial_buffer=16 * KIB)
    sizes = [fill(parser) for _ in range(6)]
    assert sizes == [16 * KIB, 32 * KIB, 64 * KIB, 128 * KIB, 128 * KIB, 128 * KIB]


def test_buffer_stays_small_in_quiet_traffic() -> None:
    parser = FrameParser()
    read(parser, Frame(TEXT, b"a" * 1000).wire() * 1000, 8 * KIB)
    assert len(parser.buffer()) <= 16 * KIB


def test_buffer_never_exceeds_a_maximum_that_is_not_a_power_of_two() -> None:
    parser = FrameParser(initial_buffer=10_000, max_buffer=25_000)
    assert [fill(parser) for _ in range(4)] == [10_000, 20_000, 25_000, 25_000]


def test_buffer_always_has_room() -> None:
    """A short frame waits in the buffer, and must not fill it."""
    parser = FrameParser(None, initial_buffer=8 * KIB, max_buffer=8 * KIB)
    for length in (4095, 4096, 4097, 8188, 8192, 70_000):
        for byte in Frame(TEXT, b"a" * length).wire()[:-1]:
            space = parser.buffer()
            assert len(space) >= 4 * KIB - 4
            space[0] = byte
            assert parser.received(1).messages == []
        assert len(parser.feed(b"a").messages[0]) == length


@pytest.mark.parametrize(("initial", "maximum"), [(0, 128 * KIB), (16 * KIB, 8 * KIB)])
def test_invalid_buffer_size_is_refused(initial: int, maximum: int) -> None:
    with pytest.raises(ValueError, match="initial_buffer"):
        FrameParser(initial_buffer=initial, max_buffer=maximum)


def test_messages_survive_the_reuse_of_the_buffer() -> None:
    parser = FrameParser()
    first = read(parser, Frame(TEXT, b"a" * 500).wire(), 16 * KIB)[0]
    read(parser, Frame(TEXT, b"b" * 500).wire(), 16 * KIB)
    assert first.messages == [b"a" * 500]


def test_read_of_nothing_is_harmless() -> None:
    parser = FrameParser()
    parser.feed(b"\x81")
    assert outcome(parser.received(0)) == ([], [], None)
    assert parser.feed(b"\x01a").messages == [b"a"]


@pytest.mark.parametrize(
    "frame", [Frame(TEXT, b"a" * 300), Frame(TEXT, b"a" * 5000), Frame(PING, b"a" * 9)]
)
def test_in_frame_from_the_first_byte_to_the_last(frame: Frame) -> None:
    parser = FrameParser()
    states = []
    for byte in frame.wire():
        states.append(parser.in_frame)
        parser.feed(bytes([byte]))
    assert states == [False] + [True] * (len(states) - 1)
    assert not parser.in_frame


def test_in_frame_is_false_between_fragments() -> None:
    parser = FrameParser()
    feed(Frame(TEXT, b"a", fin=False), parser=parser)
    assert not parser.in_frame


# --- Memory and time -----------------------------------------------------------------------------


def peak_memory(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_declared_length_allocates_nothing() -> None:
    def declare() -> None:
        parser = FrameParser(None)
        parser.feed(Frame(BINARY, b"a" * 1000, declared=1 << 40).wire())
        assert parser.in_frame

    assert peak_memory(declare) < 256 * KIB


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("fragments", [1, 16])
def test_long_message_takes_little_more_than_its_own_memory(opcode: int, fragments: int) -> None:
    """The check of text and the join of fragments make no second copy."""
    part = b"a" * (2 * MIB)
    pieces = [part] if fragments == 1 else [part[: len(part) // fragments]] * fragments
    frames = [
        Frame(CONTINUATION if index else opcode, piece, fin=index == len(pieces) - 1)
        for index, piece in enumerate(pieces)
    ]
    stream = wire(*frames)

    def receive() -> None:
        assert outcome(*read(FrameParser(), stream, 64 * KIB)).messages == [(opcode, part)]

    assert peak_memory(receive) < len(part) * 1.2 + 512 * KIB


def test_message_of_100_mb_in_64_kib_reads_is_linear() -> None:
    """Moving the received part at every read would copy 80 GB and exceed the test's timeout."""
    parser = FrameParser(None)
    chunk = b"a" * (64 * KIB)
    count = 1600
    parser.feed(Frame(BINARY, declared=count * len(chunk)).header())
    for _ in range(count - 1):
        assert not parser.feed(chunk).messages
    (message,) = parser.feed(chunk).messages
    assert len(message) == count * len(chunk)
    assert not parser.in_frame


# --- Any stream, cut anywhere --------------------------------------------------------------------


@st.composite
def messages(draw: st.DrawFn) -> list[Frame]:
    """Draw a legal message, possibly in fragments with control frames between them."""
    text = draw(st.booleans())
    size = draw(st.sampled_from([10, 10, 200, 5000]))
    payload = draw(st.text(max_size=10)).encode() if text else draw(st.binary(max_size=10))
    payload *= draw(st.integers(0, size // 10))
    cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=3)))
    frames = []
    for index, (start, stop) in enumerate(zip([0, *cuts], [*cuts, len(payload)], strict=True)):
        opcode = CONTINUATION if index else TEXT if text else BINARY
        frames.append(Frame(opcode, payload[start:stop], fin=index == len(cuts)))
        if draw(st.booleans()):
            control = st.sampled_from([PING, PONG])
            frames.append(Frame(draw(control), draw(st.binary(max_size=125))))
    return frames


legal_streams = st.lists(messages(), max_size=6).map(
    lambda groups: [frame for group in groups for frame in group]
)

some_payloads = st.one_of(
    st.binary(max_size=5),
    st.text(max_size=60).map(str.encode),
    st.sampled_from([*BAD_TEXT, b"\xe2\x82", b"\xac", b"\x03\xe8", b"\x03\xe8ok", b"\x03\xed"]),
    st.sampled_from([100, 125, 126, 150, 151, 300, 5000, 65535, 65536]).map(lambda n: b"a" * n),
    st.builds(
        lambda code, rest: code.to_bytes(2, "big") + rest,
        st.integers(990, 1020),
        st.binary(max_size=3),
    ),
)
likely_frames = st.tuples(
    st.sampled_from([CONTINUATION, CONTINUATION, CONTINUATION, TEXT, TEXT, BINARY, CLOSE, PING]),
    some_payloads,
    st.sampled_from([False, False, True]),
)
any_frames = st.tuples(
    st.integers(0, 15),
    some_payloads,
    st.sampled_from([False, True, True]),
    st.sampled_from([0] * 7 + list(range(8))),
    st.sampled_from([False] * 7 + [True]),
    st.sampled_from([None, None, None, 64]),
    st.sampled_from([None] * 15 + [1 << 63]),
)
some_frames = st.one_of(likely_frames, likely_frames, any_frames).map(lambda f: Frame(*f))
streams = st.lists(some_frames, max_size=8)


def pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


cut_points = st.lists(st.integers(0, 1 << 16), max_size=12)


@quick
@given(legal_streams, cut_points)
def test_legal_stream_cut_anywhere_gives_what_was_sent(
    frames: list[Frame], cuts: list[int]
) -> None:
    sent: list[tuple[int, bytes]] = []
    for frame in frames:
        if frame.opcode in (TEXT, BINARY):
            sent.append((frame.opcode, frame.payload))
        elif frame.opcode == CONTINUATION:
            sent[-1] = (sent[-1][0], sent[-1][1] + frame.payload)
    controls = [(frame.opcode, frame.payload) for frame in frames if frame.opcode >= CLOSE]
    parser = FrameParser()
    got = outcome(*[parser.feed(piece) for piece in pieces(wire(*frames), cuts)])
    assert got == (sent, controls, None)
    assert not parser.in_frame


@quick
@given(streams, cut_points)
def test_any_stream_cut_anywhere_gives_the_same(frames: list[Frame], cuts: list[int]) -> None:
    data = wire(*frames)
    whole, parser = FrameParser(), FrameParser()
    expected = outcome(whole.feed(data))
    assert outcome(*[parser.feed(piece) for piece in pieces(data, cuts)]) == expected
    assert (parser.close_code, parser.close_reason) == (whole.close_code, whole.close_reason)
    assert parser.in_frame == whole.in_frame


@quick
@given(streams, st.integers(1, 20_000))
def test_any_stream_read_through_the_buffer_gives_the_same(frames: list[Frame], size: int) -> None:
    data = wire(*frames)
    parser = FrameParser(initial_buffer=8 * KIB)
    assert outcome(*read(parser, data, size)) == outcome(FrameParser().feed(data))


@quick
@given(legal_streams)
def test_legal_stream_byte_by_byte_gives_the_same(frames: list[Frame]) -> None:
    data = wire(*frames)[:2000]
    assert outcome(*read(FrameParser(), data, 1)) == outcome(FrameParser().feed(data))


@quick
@given(st.binary(max_size=300), cut_points)
def test_noise_cut_anywhere_gives_the_same(data: bytes, cuts: list[int]) -> None:
    parser = FrameParser()
    expected = outcome(FrameParser().feed(data))
    assert outcome(*[parser.feed(piece) for piece in pieces(data, cuts)]) == expected


class Careful(FrameParser):
    """The parser without its fast path."""

    def _ordinary(self, data: bytes, position: int, out: Frames) -> int:
        return position


@quick
@given(streams, cut_points)
def test_any_stream_gives_the_same_without_the_fast_path(
    frames: list[Frame], cuts: list[int]
) -> None:
    fast, careful = FrameParser(), Careful()
    parts = pieces(wire(*frames), cuts)
    assert outcome(*map(fast.feed, parts)) == outcome(*map(careful.feed, parts))
    assert (fast.close_code, fast.close_reason) == (careful.close_code, careful.close_reason)
    assert fast.in_frame == careful.in_frame


# --- Against an independent implementation -------------------------------------------------------


class Reference:
    """The parser of websockets, with the decoding of text that its connection does."""

    def __init__(self, limit: int | None) -> None:
        self.protocol = Protocol(CLIENT, max_size=limit)
        self.parts: list[bytes] = []
        self.opcode = 0
        self.decoder = codecs.getincrementaldecoder("utf-8")()

    def feed(self, data: bytes) -> Outcome:
        self.protocol.receive_data(data)
        messages, controls = [], []
        for event in self.protocol.events_received():
            payload = bytes(event.data)
            if event.opcode in (Opcode.CLOSE, Opcode.PING, Opcode.PONG):
                controls.append((int(event.opcode), payload))
                continue
            if event.opcode is not Opcode.CONT:
                self.opcode = int(event.opcode)
            if self.opcode == TEXT:
                try:
                    self.decoder.decode(payload, event.fin)
                except UnicodeDecodeError:
                    return Outcome(messages, controls, 1007)
            self.parts.append(payload)
            if event.fin:
                messages.append((self.opcode, b"".join(self.parts)))
                self.parts.clear()
        if self.protocol.parser_exc is None:
            return Outcome(messages, controls, None)
        assert self.protocol.close_sent is not None
        return Outcome(messages, controls, int(self.protocol.close_sent.code))


class Difference(NamedTuple):
    """A difference between us and websockets; `example` ends with the frame that shows it."""

    example: list[Frame]
    ours: int | None
    theirs: set[int | None]
    applies: Callable[[Frame], bool]


LIMIT, MAX_FRAGMENTS = 150, 4

DIFFERENCES = {
    # Stricter than websockets, or as strict with another code.
    "a length must be in its shortest form": Difference(
        [Frame(TEXT, b"a", width=64)],
        1002,
        {None, 1007, 1009},
        lambda f: f.width not in (None, f.shortest),
    ),
    "a length's highest bit is an error of form, not of size": Difference(
        [Frame(TEXT, declared=1 << 63)], 1002, {None, 1009}, lambda f: f.length >> 63 == 1
    ),
    "a bad header is one whatever its length": Difference(
        [Frame(PING, b"a" * 151)], 1002, {1009}, lambda f: f.length > 0
    ),
    "the number of fragments is bounded": Difference(
        [Frame(TEXT, fin=False), *[Frame(0, fin=False)] * 4],
        1009,
        {None, 1007},
        lambda f: f.opcode == 0,
    ),
    "a bad close code comes before a bad reason": Difference(
        [Frame(CLOSE, b"\x03\xed\xff")], 1002, {1007}, lambda f: f.opcode == CLOSE
    ),
    # More lenient, as RFC 6455 section 5.4 requires: control frames may come between fragments.
    "a close frame may come inside a message": Difference(
        [Frame(TEXT, fin=False), Frame(CLOSE)], None, {1002}, lambda f: f.opcode == CLOSE
    ),
    "a control frame is no part of a message's size": Difference(
        [Frame(TEXT, b"a" * 150, fin=False), Frame(PING, b"p")],
        None,
        {1009},
        lambda f: f.opcode >= CLOSE,
    ),
}


def parting(frames: list[Frame], limit: int | None) -> tuple[Frame, Outcome, Outcome] | None:
    """Feed both parsers frame by frame; return the first frame with different outcomes."""
    parser = FrameParser(limit, max_fragments=MAX_FRAGMENTS)
    reference = Reference(limit)
    for frame in frames:
        ours, theirs = outcome(parser.feed(frame.wire())), reference.feed(frame.wire())
        if ours != theirs:
            return frame, ours, theirs
        if ours.code is not None or parser.close_code is not None:
            return None
    return None


@pytest.mark.parametrize("difference", DIFFERENCES.values(), ids=DIFFERENCES)
def test_each_listed_difference_from_websockets_exists(difference: Difference) -> None:
    parted = parting(difference.example, LIMIT)
    assert parted is not None
    frame, ours, theirs = parted
    assert frame == difference.example[-1]
    assert ours.code == difference.ours
    assert theirs.code in difference.theirs
    assert difference.applies(frame)


@examples(1500)
@given(streams, st.sampled_from([LIMIT, LIMIT, None]))
def test_any_stream_is_judged_as_by_websockets_except_listed_differences(
    frames: list[Frame], limit: int | None
) -> None:
    parted = parting(frames, limit)
    if parted is None:
        return
    frame, ours, theirs = parted
    excuses = [
        name
        for name, difference in DIFFERENCES.items()
        if difference.applies(frame)
        and difference.ours == ours.code
        and theirs.code in difference.theirs
    ]
    assert excuses, parted


@quick
@given(legal_streams)
def test_legal_stream_gives_the_same_in_websockets(frames: list[Frame]) -> None:
    data = wire(*frames)
    assert outcome(FrameParser(None).feed(data)) == Reference(None).feed(data)
