"""Random pairs of a live log and a shadow log, for property tests."""

import uuid
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from gnomon_schemas.codec import Codec
from tests.support.logs import FEATURES, capture, cell, row, seal, start

CODEC = Codec(FEATURES.live)
VALUES = [CODEC.encode(capture(n, f"r{n}")) for n in range(64)]


@dataclass(frozen=True)
class Live:
    """A live message."""

    at: int
    id: str
    stratum: str = ""
    body: bytes | None = None

    def offset(self) -> int:
        return self.at

    def key(self) -> bytes:
        return self.id.encode()

    def value(self) -> bytes | None:
        return VALUES[self.at % 64] if self.body is None else self.body

    def headers(self) -> Any:
        return [("other", b"x"), ("stratum", self.stratum.encode())] if self.stratum else None


@dataclass(frozen=True)
class Step:
    """A record of the shadow log: its name and the record."""

    name: str
    record: dict[str, Any]


@dataclass(frozen=True)
class Logs:
    """Both logs, and the expected result."""

    shadow: list[Step]
    live: list[Live]
    low: int
    windows: list[tuple[int, int, frozenset[int]]]
    end: int
    foreign: frozenset[int]
    unread: frozenset[int]
    strata: list[str]


@st.composite
def logs(draw: st.DrawFn) -> Logs:
    """Draw consecutive windows over [begin, end), with torn ones and replays, over a possibly truncated live log."""
    begin = draw(st.integers(0, 5))
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=8))
    strata = draw(st.lists(st.sampled_from(["", "a", "b"]), min_size=64, max_size=64))
    foreign, unread = (draw(st.frozensets(st.integers(0, 60), max_size=6)) for _ in range(2))
    steps = [Step("gnomon.v1.DeploymentStart", start(0, "c", None, start_offset=begin))]
    windows: list[tuple[int, int, frozenset[int]]] = []
    sealed: list[list[Step]] = []
    at = begin
    for number, size in enumerate(sizes):
        end = at + size
        chosen = draw(st.sets(st.integers(at, end - 1)))
        for torn in range(draw(st.integers(0, 2))):
            lost = draw(st.sets(st.integers(at, end + 3)))
            torn_id = str(uuid.UUID(int=1000 + 10 * number + torn))
            steps += [Step("gnomon.v1.ShadowPrediction", row(0, o, f"r{o}", torn_id)) for o in sorted(lost)]
        window_id = str(uuid.UUID(int=number))
        errors = {o: {"kind": "dead_letter", "message": f"truncated: at {o}"} for o in chosen & unread}
        rows = [row(0, o, f"r{o}", window_id, stratum=strata[o], error=errors.get(o)) for o in sorted(chosen)]
        names = sorted({strata[o] for o in range(at, end)})
        cells = [
            cell([r for r in rows if r["stratum"] == name], sum(strata[o] == name for o in range(at, end)), name)
            for name in names
        ]
        twice = [r for r in rows if draw(st.booleans())]
        window = [Step("gnomon.v1.ShadowPrediction", r) for r in rows + twice]
        window.append(Step("gnomon.v1.SamplingWindow", seal(0, at, end, cells, window_id)))
        steps += window
        sealed.append(window)
        if draw(st.booleans()):
            steps += sealed[draw(st.integers(0, number))]
        windows.append((at, end, frozenset(chosen)))
        at = end
    low = draw(st.integers(0, at + 2)) if draw(st.booleans()) else 0
    beyond = draw(st.integers(0, 4))
    live = [Live(o, f"{'x' if o in foreign else 'r'}{o}", strata[o % 64]) for o in range(low, max(low, at) + beyond)]
    return Logs(steps, live, low, windows, at, foreign, unread, strata)
