"""`gnomon schemas`: inferring, comparing, publishing and refusing schemas."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from tests.support.tap import FEATURES, GOOD, captures, make_tap, raw_messages

from gnomon_consumer import cli
from gnomon_schemas.features import FeatureSchema


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as done:
        cli.main([str(argument) for argument in arguments])
    assert isinstance(done.value.code, int)
    return done.value.code


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


COLUMNS: dict[str, Any] = {
    "amount": [1.5, 2.0],
    "visits": [3, 4],
    "country": ["CH", None],
    "known": [True, False],
    "id": ["a", "b"],
}
EXPECTED = {"amount": "double", "visits": "long", "country": ["null", "string"], "known": "boolean"}


def test_infer_draws_the_same_from_csv_parquet_and_json_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("sample.csv").write_text("amount,visits,country,known,id\n1.5,3,CH,true,a\n2.0,4,,false,b\n")
    parquet.write_table(pa.table(COLUMNS), "sample.parquet")
    rows = [{name: values[row] for name, values in COLUMNS.items()} for row in range(2)]
    Path("sample.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    for name in ("sample.csv", "sample.parquet", "sample.jsonl"):
        assert run("schemas", "infer", name, "--leave-out", "id", "--name", "Payment") == 0
        record = json.loads(capsys.readouterr().out)
        assert record["name"] == "Payment"
        assert {field["name"]: field["type"] for field in record["fields"]} == EXPECTED
        assert [field["name"] for field in record["fields"] if "default" in field] == ["country"]
    assert run("schemas", "infer", "sample.csv", "-o", "features.avsc") == 0
    assert [feature.name for feature in FeatureSchema.of("features.avsc").features] == list(COLUMNS)


def test_infer_keeps_narrow_types_arrays_and_categories(capsys: pytest.CaptureFixture[str]) -> None:
    table = pa.table(
        {
            "short": pa.array([1], pa.int16()),
            "single": pa.array([1.0], pa.float32()),
            "category": pa.array(["a"]).dictionary_encode(),
            "xs": pa.array([[1.0, 2.0]]),
        }
    )
    parquet.write_table(table, "sample.parquet")
    assert run("schemas", "infer", "sample.parquet") == 0
    fields = json.loads(capsys.readouterr().out)["fields"]
    array = {"type": "array", "items": "double"}
    assert [field["type"] for field in fields] == ["int", "float", "string", array]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("nowhere.csv", None, "nowhere.csv"),
        ("sample.xlsx", "x", "must end in .csv"),
        ("sample.csv", "a,b\n", "no rows"),
        ("sample.csv", "a,b\n1,\n", "--leave-out b"),
        ("sample.csv", "a,b,a\n1,2,3\n", "two columns named 'a'"),
        ("sample.csv", "a,b\n1\n", "cannot be read as csv"),
        ("sample.parquet", "no parquet", "cannot be read as parquet"),
        ("sample.jsonl", "{", "cannot be read as json"),
    ],
)
def test_what_cannot_be_inferred_is_one_line(
    name: str, content: str | None, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        Path(name).write_text(content)
    assert run("schemas", "infer", name) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1


def avsc(name: str, **features: Any) -> str:
    fields = [
        {"name": feature, "type": kind} | ({"default": None} if isinstance(kind, list) else {})
        for feature, kind in features.items()
    ]
    Path(name).write_text(json.dumps({"type": "record", "name": Path(name).stem, "fields": fields}))
    return name


@pytest.mark.parametrize(
    ("new", "backward", "forward"),
    [
        ({"a": "long"}, [], []),
        ({"a": "double"}, [], ["a: reader type: long not compatible with writer type: double"]),
        ({"a": "long", "b": "long"}, ["b: has no default, and the other version does not have it"], []),
        ({"a": "long", "b": ["null", "long"]}, [], []),
        (
            {"a": "string"},
            ["a: reader type: string not compatible with writer type: long"],
            ["a: reader type: long not compatible with writer type: string"],
        ),
    ],
)
def test_check_says_what_each_reads_of_the_other(
    new: dict[str, Any], backward: list[str], forward: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    old_file, new_file = avsc("old.avsc", a="long"), avsc("new.avsc", **new)
    assert run("schemas", "check", old_file, new_file) == (1 if backward else 0)
    shown = capsys.readouterr().out
    assert f"backward compatible: {'no' if backward else 'yes'}" in shown
    assert f"forward compatible: {'no' if forward else 'yes'}" in shown
    assert run("schemas", "check", old_file, new_file, "--require", "forward") == (1 if forward else 0)
    assert run("schemas", "check", old_file, new_file, "--require", "full") == (1 if backward or forward else 0)
    assert run("schemas", "check", old_file, new_file, "--require", "none") == 0
    capsys.readouterr()
    run("schemas", "check", old_file, new_file, "--json")
    told = json.loads(capsys.readouterr().out)
    assert (told["backward"], told["forward"]) == (not backward, not forward)
    assert (told["backward_reasons"], told["forward_reasons"]) == (backward, forward)


def test_check_refuses_what_is_no_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("schemas", "check", avsc("old.avsc", a="long"), "nowhere.avsc") == 2
    assert "nowhere.avsc" in capsys.readouterr().err


def test_register_and_list(mock_bootstrap: str, stream_name: str, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--stream", stream_name, "--bootstrap-servers", mock_bootstrap)
    assert run("schemas", "list", *where) == 0
    assert "no schema" in capsys.readouterr().out
    assert run("schemas", "register", avsc("features.avsc", **FEATURES), *where) == 0
    fingerprint = capsys.readouterr().out.strip()
    assert fingerprint == str(FeatureSchema.of("features.avsc").live.fingerprint)
    assert run("schemas", "list", *where) == 0
    expected = f"{fingerprint}  3 features: amount double, country string?, visits long\n"
    assert capsys.readouterr().out == expected
    assert run("schemas", "list", *where, "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["features"]["country"] == "string?"


def test_a_hook_writes_under_the_registered_schema(
    mock_bootstrap: str, stream_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    avsc("features.avsc", **FEATURES)
    assert (
        run("schemas", "register", "features.avsc", "--stream", stream_name, "--bootstrap-servers", mock_bootstrap) == 0
    )
    fingerprint = capsys.readouterr().out.strip()
    tap = make_tap(mock_bootstrap, stream_name, features="features.avsc")
    tap.record("r", GOOD, value=1.0)
    assert tap.close()
    assert len(captures(mock_bootstrap, stream_name)) == 1
    published = raw_messages(mock_bootstrap, f"gnomon.{stream_name}.schemas")
    assert {message.key.decode() for message in published} == {fingerprint}


def test_register_in_a_registry(stream_name: str, capsys: pytest.CaptureFixture[str]) -> None:
    features = avsc("features.avsc", **FEATURES)
    options = ("--stream", stream_name, "--bootstrap-servers", "127.0.0.1:1")
    assert run("schemas", "register", features, *options, "-X", "schema.registry.url=mock://") == 0
    assert capsys.readouterr().out == "1\n"


@pytest.mark.parametrize("command", ["register", "list"])
def test_no_broker_is_status_3(
    command: str, stream_name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GNOMON_KAFKA__TIMEOUT_SECONDS", "1")
    arguments = [avsc("features.avsc", **FEATURES)] if command == "register" else []
    where = ("--stream", stream_name, "--bootstrap-servers", "127.0.0.1:1")
    assert run("schemas", command, *arguments, *where) == 3
    assert capsys.readouterr().err.count("\n") == 1
