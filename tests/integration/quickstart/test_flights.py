"""The flights of the package, and the two models: no future data leaks into them, the ONNX file is the model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from gnomon_consumer.quickstart.demo import flights, training
from gnomon_consumer.quickstart.demo.flights import FEATURES, FEATURES_FILE, SCHEDULE, TEXTS, WEATHER, Flights
from gnomon_consumer.quickstart.demo.training import CLASSES, THRESHOLD, Trained
from gnomon_schemas.features import FeatureSchema

DAY = 86_400_000_000


# The models are trained once for all of them, so they belong in one worker.
pytestmark = pytest.mark.xdist_group("flights")


@pytest.fixture(scope="module")
def split() -> tuple[Flights, Flights]:
    return flights.load()


@pytest.fixture(scope="module")
def models(split: tuple[Flights, Flights]) -> tuple[Trained, Trained]:
    return training.train(split[0])


def test_the_whole_year_is_there_once_and_in_order(split: tuple[Flights, Flights]) -> None:
    train, replay = split
    assert (len(train), len(replay)) == (80_789, 255_987)
    assert len({*train.request_id, *replay.request_id}) == 336_776
    assert (np.diff(replay.captured_at) >= 0).all()
    assert train.captured_at.max() < replay.captured_at.min()
    # The first flight of April: scheduled 05:00 in New York, four hours behind UTC in summer time.
    assert replay.request_id[0].startswith("20130401-")
    assert pd.Timestamp(replay.captured_at[0], unit="us") == pd.Timestamp("2013-04-01 09:00")


def test_labels_are_late_iff_over_15_minutes_and_missing_iff_cancelled_or_diverted(
    split: tuple[Flights, Flights],
) -> None:
    raw = pd.read_csv(flights._data_folder() / "flights.csv.zip")
    raw = raw[raw["month"] > 3]
    replay = split[1]
    assert np.isnan(replay.late).sum() == raw["arr_delay"].isna().sum() == 6552
    assert np.nansum(replay.late) == (raw["arr_delay"] > 15).sum()
    known = ~np.isnan(replay.late)
    assert (replay.landed_at[~known] == -1).all()
    assert (replay.landed_at[known] > replay.captured_at[known] - DAY // 24).all()
    wait = replay.observed_at[known] - replay.landed_at[known]
    held_back = wait > 0
    assert held_back.mean() == pytest.approx(0.02, abs=0.002)
    assert 2 * DAY <= wait[held_back].min() < wait[held_back].max() <= 10 * DAY


def test_weather_is_joined_on_origin_and_scheduled_hour(split: tuple[Flights, Flights]) -> None:
    raw = pd.read_csv(flights._data_folder() / "weather.csv")
    by_hour = {(row.origin, row.time_hour): row for row in raw.itertuples()}
    replay = split[1]
    seen = 0
    for index in range(0, len(replay), 997):
        row = replay.features.iloc[index]
        hour = pd.Timestamp(replay.captured_at[index], unit="us").floor("h").strftime("%Y-%m-%dT%H:00:00Z")
        weather = by_hour.get((row["origin"], hour))
        if weather is None:
            assert row[list(WEATHER)].isna().all()
            continue
        expected = [weather.humid, weather.wind_speed, weather.precip, weather.visib]
        np.testing.assert_array_equal(row[list(WEATHER)].astype(float), np.array(expected, dtype=float))
        seen += 1
    assert seen > 200


def test_the_feature_record_is_the_union_and_holds_nothing_of_the_outcome() -> None:
    schema = FeatureSchema.of(FEATURES_FILE)
    assert tuple(feature.name for feature in schema.features) == FEATURES
    assert tuple(feature.name for feature in schema.features if feature.nullable) == WEATHER
    assert {*TEXTS, *SCHEDULE, *WEATHER} == set(FEATURES)


def test_onnx_says_what_scikit_learn_says(split: tuple[Flights, Flights], models: tuple[Trained, Trained]) -> None:
    frame = split[1].features
    strange = frame.head(3).assign(carrier="ZZ", dest="???", scheduled_hour=3)
    frame = pd.concat([frame, strange], ignore_index=True)
    assert frame[list(WEATHER)].isna().any().all()
    for model in models:
        session = onnxruntime.InferenceSession(model.onnx, providers=["CPUExecutionProvider"])
        labels, probabilities = session.run(None, flights.model_inputs(model.features, frame))
        expected = model.pipeline.predict_proba(frame[list(model.features)])
        assert probabilities.shape == expected.shape
        np.testing.assert_allclose(probabilities, expected, atol=1e-6)
        assert probabilities.std(axis=0).min() > 0.05
        np.testing.assert_array_equal(
            labels == "late", probabilities[:, CLASSES.index("late")] >= np.float32(THRESHOLD)
        )
        metadata = session.get_modelmeta().custom_metadata_map
        assert json.loads(metadata["classes"]) == list(CLASSES)
        assert json.loads(metadata["features"]) == [i.name for i in session.get_inputs()] == list(model.features)


def test_the_challenger_is_better_because_it_sees_the_weather(
    split: tuple[Flights, Flights], models: tuple[Trained, Trained]
) -> None:
    replay = split[1]
    known = ~np.isnan(replay.late)
    live, challenger = (
        roc_auc_score(replay.late[known], model.pipeline.predict_proba(replay.features[known])[:, 1])
        for model in models
    )
    assert 0.6 < live < 0.66 < challenger < 0.72
    blind = replay.features.assign(**dict.fromkeys(WEATHER, np.nan))
    without = roc_auc_score(replay.late[known], models[1].pipeline.predict_proba(blind[known])[:, 1])
    assert without < challenger - 0.02


@pytest.mark.parametrize("hash_seed", ["1", "3"])
def test_training_again_in_another_process_gives_the_same_files(
    models: tuple[Trained, Trained], tmp_path: Path, hash_seed: str
) -> None:
    command = [sys.executable, "-m", "gnomon_consumer.quickstart.demo.training", str(tmp_path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONHASHSEED": hash_seed})
    assert [(tmp_path / f"{model.name}.onnx").read_bytes() for model in models] == [model.onnx for model in models]
