"""Reading the first fields of many captures at once equals reading each capture alone."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from gnomon_schemas.codec import peek
from gnomon_schemas.errors import DecodeError
from gnomon_schemas.peeks import peeks

HEADERS = (b"\xc3\x01ABCDEFGH", b"\xc3\x01abcdefgh", b"\x00\x00\x00\x00\x07", b"no")
RUNS = ("0" * 8 + "-0000-4000-8000-" + "0" * 12, "f" * 8 + "-0000-4000-8000-" + "f" * 12)


def varint(number: int, overlong: int = 0) -> bytes:
    number = number << 1 if number >= 0 else (-number << 1) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    for _ in range(overlong):
        out[-1] |= 0x80
        out.append(0)
    return bytes(out)


NUMBERS = st.one_of(
    st.integers(0, 5000), st.integers(-(2**63), 2**63 - 1), st.sampled_from([2**62 - 1, 2**62, -(2**62), 2**63, 2**64])
)


@st.composite
def captures(draw: st.DrawFn) -> bytes | None:
    header = draw(st.sampled_from(HEADERS[:1] * 8 + HEADERS))
    run = draw(st.one_of(st.sampled_from(RUNS), st.text(max_size=40), st.just("0" * 35 + "\0"), st.just("é" * 18)))
    name = run.encode("utf-8", "surrogatepass")
    body = varint(len(name)) + name
    for number in (draw(NUMBERS), draw(NUMBERS)):
        body += varint(number, draw(st.sampled_from([0, 0, 0, 1, 8])))
    whole: bytes = header + body + bytes(draw(st.sampled_from([0, 60, 300])))
    kind = draw(st.sampled_from(["whole"] * 8 + ["cut", "none", "spoilt"]))
    if kind == "none":
        return None
    if kind == "cut":
        return whole[: draw(st.integers(0, len(whole)))]
    if kind == "spoilt":
        at = draw(st.integers(0, len(whole) - 1))
        return whole[:at] + bytes([draw(st.integers(0, 255))]) + whole[at + 1 :]
    return whole


def one_by_one(messages: Sequence[bytes | None]) -> list[tuple[int, str, int, int]]:
    found = []
    for place, message in enumerate(messages):
        try:
            one = peek(message)
        except DecodeError:
            continue
        if len(one.producer_id) == 36 and all(-(2**63) <= n < 2**63 for n in (one.sequence, one.captured_at)):
            found.append((place, *one))
    return found


@given(st.lists(captures(), max_size=40))
def test_peeks_are_the_peeks_of_each(messages: list[bytes | None]) -> None:
    read = peeks(messages)
    producers = [read.producers[at] for at in read.producer_of.tolist()]
    columns = (read.places.tolist(), producers, read.sequences.tolist(), read.captured_at.tolist())
    assert list(zip(*columns, strict=True)) == one_by_one(messages)
    assert len(set(read.producers)) == len(read.producers)
