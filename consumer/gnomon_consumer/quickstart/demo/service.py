"""The live service of the flights stream, with the hook in it: `python -m gnomon_consumer.quickstart.demo.service`.

It answers one request per flight, in the order of the scheduled departures and as fast as it can. It publishes each
label at the simulated time at which the outcome becomes known. `captured_at` is the time of the flight; the timestamps
of the messages come from the wall clock. Its only link to Gnomon is the hook: without a broker it answers as well.

With `--paced` it reads numbers from standard input, one per line: how many captures and labels in total it may have
published. It writes its progress to standard output, as JSON lines. The end of the input ends it. The demo paces it
because the embedded Kafka drops records that are read too late. A real broker does not need this.
"""

import json
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime
import rich_click as click

from gnomon_consumer.quickstart.demo.flights import FEATURES, FEATURES_FILE, LIVE_MODEL, Flights, load, model_inputs
from gnomon_consumer.quickstart.demo.folder import STREAM
from gnomon_producer import Tap, TapStats
from gnomon_schemas.errors import ConfigurationError, GnomonError

STRIDE = 256
# Far below the hook's own bound, so that nothing is ever dropped.
MAX_IN_FLIGHT = 10_000
REPORT_SECONDS = 0.2


@dataclass(frozen=True)
class ReplayProgress:
    """The progress of the replay; `simulated` is its clock (µs UTC)."""

    captured: int
    labels: int
    simulated: int


class Pace(Protocol):
    """Limits the pace of the replay."""

    def wait(self, published: int) -> None:
        """Return when more than `published` messages are allowed. Raises GnomonError if they never will be."""
        ...


class LiveModel:
    """The live model: predicts the probability that a flight arrives late."""

    def __init__(self, path: Path, flights: Flights) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001 -- onnxruntime has a class for each status; all mean the file
            raise ConfigurationError(f"--model {path}: {str(error).splitlines()[0]}") from None
        self._inputs = model_inputs([item.name for item in self._session.get_inputs()], flights.features)

    def predict(self, row: int) -> tuple[float, str]:
        """Return the probability of `late` and the decision for the flight at index `row`."""
        inputs = {name: column[row : row + 1] for name, column in self._inputs.items()}
        decision, probabilities = self._session.run(None, inputs)
        return float(probabilities[0, 1]), str(decision[0])


def timeline(flights: Flights) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return times (µs, simulated) and events: event i >= 0 is the request of flight i, -1 - i is its label."""
    labelled = np.flatnonzero(flights.observed_at >= 0)
    times = np.concatenate([flights.captured_at, flights.observed_at[labelled]])
    events = np.concatenate([np.arange(len(flights)), -1 - labelled])
    order = np.argsort(times, kind="stable")
    return times[order], events[order]


def feature_rows(flights: Flights) -> Iterator[dict[str, Any]]:
    """Return the feature record of each flight; a value that was not measured is None."""
    columns = [flights.features[name] for name in FEATURES]
    values = [column.astype(object).where(column.notna(), None).tolist() for column in columns]
    return (dict(zip(FEATURES, row, strict=True)) for row in zip(*values, strict=True))


def replay(flights: Flights, model: LiveModel, tap: Tap, pace: Pace) -> Iterator[ReplayProgress]:
    """Answer the requests and publish the labels; yield the progress every `STRIDE` events and at the end."""
    features = list(feature_rows(flights))
    times, events = timeline(flights)
    captured = labels = 0
    for published, (moment, event) in enumerate(zip(times.tolist(), events.tolist(), strict=True)):
        if published % STRIDE == 0:
            pace.wait(published)
            _let_the_hook_breathe(tap)
            yield ReplayProgress(captured, labels, moment)
        if event >= 0:
            _serve(event, flights, features[event], model, tap)
            captured += 1
        else:
            row = -1 - event
            late = flights.late[row]
            tap.label(
                flights.request_id[row],
                value=float(late),
                label="late" if late else "on_time",
                occurred_at=int(flights.landed_at[row]),
                observed_at=moment,
            )
            labels += 1
    yield ReplayProgress(captured, labels, int(times[-1]))


def _serve(row: int, flights: Flights, features: dict[str, Any], model: LiveModel, tap: Tap) -> None:
    started = time.perf_counter_ns()
    probability, decision = model.predict(row)
    latency_us = (time.perf_counter_ns() - started) // 1000
    tap.record(
        flights.request_id[row],
        features,
        value=probability,
        label=decision,
        latency_us=latency_us,
        captured_at=int(flights.captured_at[row]),
        cluster=flights.tail_number[row],
    )


def _let_the_hook_breathe(tap: Tap) -> None:
    """Wait while many messages are in flight: the hook drops rather than blocks, and a replay can wait."""
    while _in_flight(tap.stats()) > MAX_IN_FLIGHT:
        time.sleep(0.005)


def _in_flight(stats: TapStats) -> int:
    return stats.in_flight + (stats.labels.in_flight if stats.labels else 0)


def _dropped(stats: TapStats) -> dict[str, int]:
    """Return the counts of dropped messages by kind and reason; empty if none was dropped."""
    by_kind = {"captures": stats.dropped, "labels": stats.labels.dropped if stats.labels else {}}
    return {f"{kind} {reason}": count for kind, reasons in by_kind.items() for reason, count in reasons.items()}


class FreePace:
    """No limit."""

    def wait(self, published: int) -> None:
        """Return at once."""


class PipedPace:
    """The limit that standard input sets."""

    def __init__(self) -> None:
        self._allowed = 0
        self._ended = False
        self._changed = threading.Condition()
        threading.Thread(target=self._read, name="pace", daemon=True).start()

    def _read(self) -> None:
        for line in sys.stdin:
            with self._changed:
                self._allowed = int(line)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait(self, published: int) -> None:
        """Return when the input allows more than `published` messages."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._allowed > published)
            if self._allowed <= published:
                raise GnomonError("the process that paced the live service has ended")


@click.command()
@click.option("--bootstrap-servers", default="localhost:9092", show_default=True, envvar="GNOMON_BOOTSTRAP_SERVERS")
@click.option("--stream", default=STREAM, show_default=True, envvar="GNOMON_STREAM", help="Name of the stream.")
@click.option(
    "--model",
    "model_path",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    default=f"{LIVE_MODEL[0]}.onnx",
    show_default=True,
    help="The live model; `python -m gnomon_consumer.quickstart.demo.training` makes it.",
)
@click.option("--captures", type=click.IntRange(min=1), help="How many flights; default all of April to December.")
@click.option("--paced", is_flag=True, help="Take the pace from standard input, report as JSON lines.")
def serve(bootstrap_servers: str, stream: str, model_path: Path, captures: int | None, paced: bool) -> None:
    """Replay the flights of April to December 2013 through the live model, with the hook in it."""
    flights = load()[1]
    if captures is not None:
        flights = flights.select(slice(0, captures))
    model = LiveModel(model_path, flights)
    tap = Tap(
        stream=stream,
        model=LIVE_MODEL,
        features=FEATURES_FILE,
        bootstrap_servers=bootstrap_servers,
        strata=("origin",),
        segments=("origin",),
        service="flights",
    )
    started = shown = time.monotonic()
    pace = PipedPace() if paced else FreePace()
    try:
        for progress in replay(flights, model, tap, pace):
            if (now := time.monotonic()) - shown >= (REPORT_SECONDS if paced else 5.0):
                shown = now
                _report(asdict(progress), paced)
        while not tap.flush(1.0):
            pass
        last = asdict(progress)
    finally:
        tap.close(10.0)
    dropped = _dropped(tap.stats())
    _report({**last, "seconds": round(time.monotonic() - started, 1), "dropped": dropped, "done": True}, paced)
    if dropped:
        raise GnomonError(f"the hook dropped {dropped}")


def _report(fields: dict[str, Any], machine: bool) -> None:
    print(json.dumps(fields) if machine else " ".join(f"{key}={value}" for key, value in fields.items()), flush=True)


def main() -> None:
    """Run the service; print a GnomonError as one line and exit with its status."""
    try:
        serve.main()
    except GnomonError as error:
        sys.stderr.write(f"flights service: {error}\n")
        sys.exit(error.exit_status)


if __name__ == "__main__":
    main()
