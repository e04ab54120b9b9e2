"""The flights of 2013, week by week in simulated time, through the shipped commands.

Besides the demo's challenger and control there is a challenger with a typical fault: it was trained on the scheduled
departure in minutes since midnight (15:30 is 930), and the live service sends it as hhmm (1530). Every capture is
scored (`--no-sampling`), so the numbers are the same on every machine.
"""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import numpy as np
import onnx
import onnx.helper
import onnxruntime
import psycopg
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler
from threadpoolctl import threadpool_limits

from gnomon_consumer.database.connections import connect
from gnomon_consumer.quickstart.demo import flights as data
from gnomon_consumer.quickstart.demo import training
from gnomon_consumer.quickstart.demo.flights import Flights
from gnomon_consumer.quickstart.demo.folder import STREAM
from gnomon_consumer.quickstart.demo.service import feature_rows, timeline
from gnomon_consumer.quickstart.embedded.start import start_kafka, start_postgres
from gnomon_consumer.runtime.supervisor import Children
from gnomon_producer import Tap
from tests.support.servers.process import Gnomon

ZONE = ZoneInfo("America/New_York")
FIRST_DAY = date(2013, 4, 2)
"""The first whole day, because the stream begins in the early hours of the first of April."""
CHALLENGER, CONTROL, BROKEN = "gradient-boosting", "control", "broken"
ROLES = {CHALLENGER: "challenger", CONTROL: "control", BROKEN: "challenger"}
MINUTES = "scheduled_minutes"
NUMBERS = (MINUTES, "distance")
SETTLE_SECONDS = 600.0


def sent_time(flights: Flights) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the scheduled departure as the live service sends it: hhmm."""
    return np.array([int(request_id.rsplit("-", 1)[1]) for request_id in flights.request_id])


def meant_time(flights: Flights) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the scheduled departure as in the training: minutes since midnight."""
    sent = sent_time(flights)
    return sent // 100 * 60 + sent % 100


class Models:
    """The three models' files in a folder, and the trained answers of the broken one."""

    def __init__(self, folder: Path, train: Flights) -> None:
        self.live, challenger = training.train(train)
        self.files = {CHALLENGER: challenger.write(folder), CONTROL: self.live.write(folder)}
        known = ~np.isnan(train.late)
        frame = train.features.assign(**{MINUTES: meant_time(train)})[known]
        cubic = [("scale", StandardScaler()), ("powers", PolynomialFeatures(3, include_bias=False))]
        columns = ColumnTransformer(
            [
                ("texts", OneHotEncoder(handle_unknown="ignore"), [*data.TEXTS]),
                ("weekday", OneHotEncoder(handle_unknown="ignore"), ["weekday"]),
                ("time", Pipeline(cubic), [MINUTES]),
                ("distance", StandardScaler(), ["distance"]),
            ]
        )
        self.research = Pipeline([("columns", columns), ("model", LogisticRegression(C=0.1, max_iter=300))])
        with threadpool_limits(1):
            self.research.fit(frame, train.late[known].astype(np.int64))
        kinds = {**dict.fromkeys(data.TEXTS, StringTensorType), "weekday": Int64TensorType}
        inputs = [(name, kinds.get(name, FloatTensorType)([None, 1])) for name in (*data.TEXTS, "weekday", *NUMBERS)]
        model = convert_sklearn(
            self.research, initial_types=inputs, options={"zipmap": False}, target_opset=training._OPSETS
        )
        training._decide(model)
        classes = {"classes": json.dumps(training.CLASSES), "positive": training.CLASSES[1]}
        onnx.helper.set_model_props(model, classes)
        self.files[BROKEN] = folder / "broken.onnx"
        self.files[BROKEN].write_bytes(model.SerializeToString())

    def answers(self, flights: Flights) -> tuple[list[float], list[str]]:
        """Return the live model's probabilities of `late` and its decisions."""
        session = onnxruntime.InferenceSession(self.live.onnx, providers=["CPUExecutionProvider"])
        decisions, probabilities = session.run(None, data.model_inputs(self.live.features, flights.features))
        return probabilities[:, 1].astype(float).tolist(), decisions.tolist()


def features_file(folder: Path) -> Path:
    """Write the demo's feature record with the scheduled departure for the broken challenger."""
    schema = json.loads(data.FEATURES_FILE.read_text(encoding="utf-8"))
    schema["fields"].append({"name": MINUTES, "type": "int"})
    file = folder / "features.avsc"
    file.write_text(json.dumps(schema), encoding="utf-8")
    return file


class Weeks:
    """The running pipeline: publish up to a whole day, wait until everything is sealed, ask."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        train, self.flights = data.load()
        self.models = Models(folder, train)
        self.probabilities, self.decisions = self.models.answers(self.flights)
        self._times, self._events = timeline(self.flights)
        self._minutes = sent_time(self.flights).tolist()
        self._features = list(feature_rows(self.flights))
        self._at = 0
        self.captured = self.labelled = 0
        self.version = data.LIVE_MODEL[1]
        logs = folder / "logs"
        logs.mkdir()
        self._postgres = stack.enter_context(start_postgres(log=logs / "postgres.log"))
        self._kafka = stack.enter_context(start_kafka(log=logs / "kafka.log"))
        self.database_url = self._postgres.address
        self.command = Gnomon(folder)
        stack.enter_context(closing(self.command))
        self._write_config()
        self.children = stack.enter_context(Children(logs))
        self.gnomon("db", "upgrade")
        self.gnomon("topics", "create", *(f"--deployment={name}" for name in ROLES))
        with connect(self.database_url, "flights") as connection:
            connection.execute(
                "insert into gnomon.streams (name, replay_from, replay_until) values (%s, '2013-01-01', '2014-02-01')",
                [STREAM],
            )
        self.start()

    def _write_config(self) -> None:
        flags = {"state": "ENABLED", "variants": {"live": 1, "challenger": 2}, "defaultVariant": "live"}
        (self.folder / "flags.json").write_text(json.dumps({"flags": {"model": flags}}), encoding="utf-8")
        (self.folder / "gnomon.toml").write_text(
            f'stream = "{STREAM}"\nbootstrap_servers = "{self._kafka.address}"\n'
            f'database_url = "{self.database_url}"\n[labels]\nseal_seconds = 86400\n'
            '[score]\nsandbox = "preferred"\nwindow_seconds = 5\n'
            f'[verdict]\nmetric = "brier"\nmargin = 0.005\ntime_zone = "{ZONE.key}"\n'
            '[verdict.way_back]\nkind = "flag"\nflag_file = "flags.json"\n'
            'flag = "model"\nflag_variant = "challenger"\n',
            encoding="utf-8",
        )

    def gnomon(self, *arguments: object, status: int = 0, database_url: str | None = None) -> str:
        """Run a command to its end; return its standard output, or its standard error if the status is not 0."""
        env = {"GNOMON_DATABASE_URL": database_url} if database_url else {}
        ended = self.command.run(*map(str, arguments), env=env, timeout=600)
        assert ended.returncode == status, f"{arguments}: status {ended.returncode}\n{ended.stdout}{ended.stderr}"
        return ended.stderr if status == 2 else ended.stdout

    def start(self) -> None:
        """Start scorers, joiners and label consumer."""
        config = ("--config", self.folder / "gnomon.toml")
        for name, role in ROLES.items():
            self.children.start_gnomon(
                f"score {name}", "score", "--deployment", name, "--role", role, "--model", self.models.files[name],
                "--model-version", "2013.03", "--no-sampling", *config,
            )  # fmt: skip
            self.children.start_gnomon(f"join {name}", "join", "--deployment", name, *config)
        self.children.start_gnomon("labels", "labels", "consume", *config)

    def publish(self, days: int) -> None:
        """Publish events until so many whole days can be sealed, wait until all of them are stored, and seal."""
        # Cohorts end at midnight UTC, which is the evening before in New York; a label may take a day.
        until = datetime.combine(FIRST_DAY + timedelta(days=days + 2), datetime.min.time(), ZONE)
        last = int(until.timestamp() * 1e6)
        tap = Tap(
            stream=STREAM, model=(data.LIVE_MODEL[0], self.version), features=features_file(self.folder),
            bootstrap_servers=self._kafka.address, strata=("origin",), segments=("origin",), service="flights",
        )  # fmt: skip
        with closing(tap):
            while self._at < len(self._times) and self._times[self._at] < last:
                self._happen(tap, int(self._events[self._at]), int(self._times[self._at]))
                self._at += 1
            while not tap.flush(1.0):
                pass
            assert not tap.stats().dropped
        self._settle()

    def _happen(self, tap: Tap, event: int, moment: int) -> None:
        flights = self.flights
        if event >= 0:
            tap.record(
                flights.request_id[event], {**self._features[event], MINUTES: self._minutes[event]},
                value=self.probabilities[event], label=self.decisions[event],
                captured_at=int(flights.captured_at[event]), cluster=flights.tail_number[event],
            )  # fmt: skip
            self.captured += 1
        else:
            row = -1 - event
            late = flights.late[row]
            tap.label(
                flights.request_id[row], value=float(late), label="late" if late else "on_time",
                occurred_at=int(flights.landed_at[row]), observed_at=moment,
            )  # fmt: skip
            self.labelled += 1
        if self.captured % 5000 == 0:
            tap.flush(5.0)

    def _settle(self) -> None:
        deadline = time.monotonic() + SETTLE_SECONDS
        with connect(self.database_url, "flights") as connection:
            connection.autocommit = True
            wanted = {**dict.fromkeys(ROLES, self.captured), "labels": self.labelled}
            while (stand := self._stand(connection)) != wanted:
                self.children.check()
                assert time.monotonic() < deadline, f"{stand} of {wanted}; see {self.folder}/logs"
                time.sleep(0.2)
            connection.execute("select gnomon.seal_cohorts(stream_id) from gnomon.streams where name = %s", [STREAM])

    @staticmethod
    def _stand(connection: psycopg.Connection[Any]) -> dict[str, int]:
        joined = connection.execute(
            "select d.name, sum(p.next_source_offset)::bigint from gnomon.join_progress p"
            " join gnomon.deployments d using (deployment_id) group by d.name"
        ).fetchall()
        stored = connection.execute("select coalesce(sum(next_offset), 0)::bigint from gnomon.label_watermarks")
        return {**dict(joined), "labels": (stored.fetchone() or (0,))[0]}

    def ask(self, deployment: str, database_url: str | None = None) -> dict[str, Any]:
        """Return the current `gnomon verdict` on a deployment."""
        statuses = {"PROMOTE": 0, "HOLD": 10, "REJECT": 11, "INSUFFICIENT_DATA": 12}
        env = {"GNOMON_DATABASE_URL": database_url} if database_url else {}
        ended = self.command.run("verdict", "--deployment", deployment, "--format", "json", env=env, timeout=600)
        assert ended.stdout, ended.stderr
        said: dict[str, Any] = json.loads(ended.stdout)
        assert ended.returncode == statuses[said["decision"]]
        return said

    @contextmanager
    def without(self, *statements: str) -> Iterator[str]:
        """Yield the URL of a copy of the database without some rows; no other connection to it may be open."""
        name = "taken"
        own = urlsplit(self.database_url)
        with psycopg.connect(own._replace(path="/template1").geturl(), autocommit=True) as server:
            server.execute(f'create database {name} template "{own.path[1:]}"'.encode())
            try:
                url = own._replace(path=f"/{name}").geturl()
                with psycopg.connect(url, autocommit=True) as connection:
                    for statement in statements:
                        connection.execute(statement.encode())
                yield url
            finally:
                server.execute(f"drop database {name}".encode())

    def golden(self, rows: int = 200) -> Path:
        """Write requests as the live service sends them, each with the trained model's answer for that flight."""
        some = self.flights.select(slice(0, rows))
        frame = some.features.assign(**{MINUTES: meant_time(some)})
        answers = self.models.research.predict_proba(frame)[:, 1]
        file = self.folder / "golden.jsonl"
        with file.open("w", encoding="utf-8") as lines:
            for at, answer in enumerate(answers.tolist()):
                row = {"features": {**self._features[at], MINUTES: self._minutes[at]}, "value": answer}
                lines.write(json.dumps(row) + "\n")
        return file

    def offline(self, rows: int = 2000) -> Path:
        """Write the scheduled departures of some flights as the training computes them."""
        some = self.flights.select(slice(0, rows))
        file = self.folder / "offline.csv"
        pairs = zip(some.request_id, meant_time(some), strict=True)
        file.write_text(f"request_id,{MINUTES}\n" + "".join(f"{one},{at}\n" for one, at in pairs), encoding="utf-8")
        return file


@contextmanager
def weeks(folder: Path) -> Iterator[Weeks]:
    """Yield the pipeline; its servers and children end with the block."""
    with ExitStack() as stack:
        yield Weeks(folder, stack)
