"""Precedence, limits and one-line errors of the settings."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from gnomon_consumer.sections import Section
from gnomon_consumer.settings import Settings, environment_name, load_settings
from gnomon_schemas.errors import ConfigurationError


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_flag_beats_environment_beats_file_beats_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().score.workers == 1
    Path("gnomon.toml").write_text('stream = "from-file"\n[score]\nworkers = 2\nbatch_rows = 7\n')
    assert load_settings().score.workers == 2
    monkeypatch.setenv("GNOMON_SCORE__WORKERS", "3")
    assert load_settings().score.workers == 3
    merged = load_settings({"score": {"workers": "4"}})
    assert (merged.score.workers, merged.score.batch_rows, merged.stream) == (4, 7, "from-file")


def test_librdkafka_properties_merge_over_file_and_flag() -> None:
    Path("other.toml").write_text('[kafka.properties]\n"security.protocol" = "ssl"\n"linger.ms" = "1"\n')
    merged = load_settings({"kafka": {"properties": {"linger.ms": "9"}}}, "other.toml")
    assert merged.kafka.properties == {"security.protocol": "ssl", "linger.ms": "9"}


def test_error_names_variable_key_and_value_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GNOMON_SCORE__WORKERS", "many")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    message = str(caught.value)
    assert "GNOMON_SCORE__WORKERS" in message
    assert "file key score.workers" in message
    assert "'many'" in message
    assert "\n" not in message
    assert caught.value.exit_status == 2


def test_unknown_key_in_file_is_named() -> None:
    Path("gnomon.toml").write_text("[score]\nwrokers = 2\n")
    with pytest.raises(ConfigurationError, match=r"unknown setting: file key score\.wrokers"):
        load_settings()


@pytest.mark.parametrize(
    ("text", "expected"),
    [(b"[score\n", "is not TOML"), (b"\xff\xfe", "is not UTF-8"), (b"score = 3\n", "file key score")],
)
def test_broken_file_is_one_clear_line(text: bytes, expected: str) -> None:
    Path("gnomon.toml").write_bytes(text)
    with pytest.raises(ConfigurationError, match=expected):
        load_settings()


def test_a_byte_order_mark_is_not_part_of_the_text() -> None:
    """Some editors of Windows write one."""
    Path("gnomon.toml").write_bytes(b'\xef\xbb\xbfstream = "shop"\n')
    assert load_settings().stream == "shop"


def test_broken_json_in_the_environment_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GNOMON_SCORE", "{broken")
    with pytest.raises(ConfigurationError, match="GNOMON_SCORE"):
        load_settings()


@pytest.mark.parametrize(
    ("variable", "value", "key"),
    [
        ("GNOMON_REPORT__BOUNDS", "agreement.low >= 0.9", "report.bounds"),
        ("GNOMON_RUN__DEPLOYMENTS", "{broken", "run.deployments"),
        ("GNOMON_VERDICT__GUARDRAILS", "accuracy=1", "verdict.guardrails"),
        ("GNOMON_STREAM_SETTINGS__HORIZONS", "1 day", "stream_settings.horizons"),
        ("GNOMON_STREAM_SETTINGS__CLASSES", "a,b", "stream_settings.classes"),
    ],
)
def test_a_structured_variable_that_is_not_json_is_named_with_its_value(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, key: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert str(caught.value).startswith(f"{variable.upper()} (file key {key}): {value!r}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[kafka.properties]\nsasl.password = 'hunter22'\n", 'write the property as "sasl.password" = "…"'),
        ("[kafka.properties]\nssl.key.password = 'hunter22'\n", 'write the property as "ssl.key.password" = "…"'),
        ("kafka.properties.sasl.password = 22222222\n", 'write the property as "sasl.password" = "…"'),
        ("[kafka.properties]\n'client.id' = ['hunter22']\n", "file key kafka.properties.client.id"),
        ("kafka = 'sasl.password=hunter22'\n", "file key kafka): …: must be a table"),
        ("events = 'secret=hunter22'\n", "file key events): …: must be a table"),
        ("[[events]]\nsecret = 'hunter22'\n", "file key events): …: must be a table"),
        ("[[score]]\nmodel_authorization = 'hunter22'\n", "file key score): …: must be a table"),
        ("[[verdict]]\nmetric = 'hunter22'\n", "file key verdict): …: must be a table"),
        ("stream = {password = 'hunter22'}\n", "file key stream): …: Input should be a valid string"),
        ("[verdict.way_back]\npromote_command = 'x --token=hunter22'\n", "promote_command): …: must be a list"),
        ("[verdict.way_back]\nkind = 'command'\npromote_command = ['hunter22']\n", "way_back): …: way_back of kind"),
    ],
)
def test_the_file_s_tables_lists_and_texts_instead_of_tables_are_not_shown(text: str, named: str) -> None:
    Path("gnomon.toml").write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert named in str(caught.value)
    assert "22" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("GNOMON_KAFKA__PROPERTIES", "sasl.password=hunter22", "(file key kafka.properties): …: must be JSON"),
        ("GNOMON_KAFKA__PROPERTIES__SASL__PASSWORD", "hunter22", 'in the environment as {"sasl.password": "…"}'),
        ("GNOMON_EVENTS", '{"secret": "hunter22",', "(file key events): …: must be a JSON object"),
        ("gnomon_score", '{"model_authorization": "Bearer hunter22",', "(file key score): …: must be a JSON object"),
        ("GNOMON_SCORE", '"Bearer hunter22"', "(file key score): …: must be a table"),
        ("GNOMON_VERDICT__WAY_BACK__CHECK_COMMAND", "x --token=hunter22", "…: must be JSON"),
        ("GNOMON_SCORE", '{"model_authorization": "hunter22\udcff"}', "(file key score): is not UTF-8 text"),
        ("GNOMON_EVENTS", '{"secret": "hunter22\udcff"}', "(file key events): is not UTF-8 text"),
        ("GNOMON_VERDICT", '{"way_back": "hunter22\udcff"}', "(file key verdict): is not UTF-8 text"),
    ],
)
def test_what_may_be_a_secret_in_the_environment_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert said in str(caught.value)
    assert str(caught.value).startswith("__".join(variable.upper().split("__")[:2]))
    assert "hunter22" not in str(caught.value)


HUGE = "0x" + "f" * 5000


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = " + "[" * 5000, "gnomon.toml is nested too deeply"),
        (".".join("a" * 5000) + " = 1", "a setting in gnomon.toml or in the environment is nested too deeply"),
        ("a = " + "1" * 5000, "gnomon.toml has a number of too many digits"),
        (f"stream = {HUGE}", "file key stream): …: "),
        (f"[score]\nworkers = {HUGE}", "file key score.workers): …: "),
        (f"[kafka]\ntimeout_seconds = {HUGE}", "file key kafka.timeout_seconds): …: "),
        (f"[report]\nbounds = [{HUGE}]", r"file key report.bounds.0): …: "),
    ],
)
def test_a_file_that_python_cannot_read_or_write_is_one_line(text: str, said: str) -> None:
    Path("gnomon.toml").write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert said in str(caught.value)


@pytest.mark.parametrize("variable", ["GNOMON_KAFKA__PROPERTIES", "GNOMON_SCORE", "GNOMON_RUN__DEPLOYMENTS__A"])
def test_json_that_is_nested_too_deeply_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "[" * 50_000)
    with pytest.raises(ConfigurationError, match=f"{variable}.*: …: must be |is nested too deeply"):
        load_settings()


def test_a_file_that_cannot_be_looked_for_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"^x{300} cannot be read: File name too long$"):
        load_settings(config="x" * 300)

    def denied(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", denied)
    for config in (None, "gnomon.toml"):
        with pytest.raises(ConfigurationError, match=r"^gnomon\.toml cannot be read: Permission denied$"):
            load_settings(config=config)


def test_missing_config_file() -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.toml"):
        load_settings(config="nowhere.toml")


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings({"database_url": ["postgresql://user:hunter2@host/db"]})
    assert "hunter2" not in str(caught.value)


def test_required_settings_say_how_to_give_them() -> None:
    with pytest.raises(ConfigurationError, match="GNOMON_STREAM"):
        load_settings().require_stream()
    with pytest.raises(ConfigurationError, match="GNOMON_DATABASE_URL"):
        load_settings().require_database_url()


def leaves(model: type[Section] | type[Settings] = Settings, prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, Section):
            yield from leaves(annotation, f"{prefix}{name}.")
        else:
            yield prefix + name


WRONG = (
    "", " ", "\n", "many", "-1", "1e400", "nan", "inf", "[", "{}", "null", "true", "0x10", "20130401", "9" * 20,
    os.fsdecode(b"\xff"), '["a", 1]', '{"a": "b"}',
)  # fmt: skip


@pytest.mark.parametrize("key", list(leaves()))
def test_no_value_of_any_variable_is_more_than_one_line(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = environment_name(key)
    table = environment_name(key.rpartition(".")[0])
    for value in WRONG:
        monkeypatch.setenv(name, value)
        try:
            load_settings()
        except ConfigurationError as error:
            said = str(error)
            assert said.startswith((f"{name} (file key {key}", f"{table} (file key ")), (value, said)
            assert said.isprintable(), (value, said)
            assert not any(word in said for word in ("tuple", "dictionary", "Value error")), (value, said)


def test_a_time_without_a_zone_and_a_number_are_no_times(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("20130401", "-1", "1364774400", "2013-04-01", "2013-04-01T00:00:00", "1. April"):
        monkeypatch.setenv("GNOMON_JOIN__REPLAY_FROM", value)
        with pytest.raises(ConfigurationError, match=r"must be a time with its zone, such as 2013-04-01T00:00:00Z$"):
            load_settings()
    monkeypatch.setenv("GNOMON_JOIN__REPLAY_FROM", "2013-04-01T02:00:00+02:00")
    assert str(load_settings().join.replay_from) == "2013-04-01 02:00:00+02:00"
    monkeypatch.delenv("GNOMON_JOIN__REPLAY_FROM")
    for text, zoned in (("2013-04-01T00:00:00Z", True), ("2013-04-01T00:00:00", False), ("2013-04-01", False)):
        Path("gnomon.toml").write_text(f"[join]\nreplay_from = {text}\n")
        if zoned:
            assert str(load_settings().join.replay_from) == "2013-04-01 00:00:00+00:00"
        else:
            with pytest.raises(ConfigurationError, match=r"file key join\.replay_from.*with its zone"):
                load_settings()


def test_every_field_is_described_and_every_number_has_limits() -> None:
    def walk(model: type[Section] | type[Settings], prefix: str = "") -> None:
        for name, field in model.model_fields.items():
            annotation = field.annotation
            if isinstance(annotation, type) and issubclass(annotation, Section):
                walk(annotation, f"{prefix}{name}.")
                continue
            key = prefix + name
            assert field.description, key
            if annotation in (int, float) or set(get_args(annotation)) in ({int, type(None)}, {float, type(None)}):
                limits = {type(limit).__name__ for limit in field.metadata}
                assert limits & {"Ge", "Gt"}, key
                assert limits & {"Le", "Lt"}, key
                assert "default" in field.description or annotation not in (int, float), key

    walk(Settings)
    assert environment_name("score.workers") == "GNOMON_SCORE__WORKERS"


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("database_url", "postgresql://h/d\0evil", "has a NUL character"),
        ("bootstrap_servers", "h\0:1", "has a NUL character"),
        ("kafka.properties", {"sasl.password": "canary7\0Secret"}, "has a NUL character"),
        ("kafka.properties", {"client.id\0": "x"}, "has a NUL character"),
        ("kafka.properties", {"sasl.password": "canary7\ud800"}, "is not UTF-8 text"),
        ("kafka.properties", {"\ud800": "x"}, "is not UTF-8 text"),
        ("verdict.metric", "canary7\ud800", "is not UTF-8 text"),
        ("verdict.time_zone", "canary7\ud800", "is not UTF-8 text"),
        ("events.secret", "canary7-canary7-canary7\ud800", "is not UTF-8 text"),
        ("score.model_authorization", "canary7\0", "has a NUL character"),
    ],
)
def test_a_text_that_a_server_would_get_cut_or_not_at_all_is_refused(key: str, value: Any, fault: str) -> None:
    section, _, name = key.rpartition(".")
    overrides = {section: {name: value}} if section else {key: value}
    with pytest.raises(ConfigurationError, match=f"file key {key}.*{fault}") as raised:
        load_settings(overrides)
    assert "canary7" not in str(raised.value)


def test_an_escape_in_the_file_or_the_environment_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("gnomon.toml").write_text('[kafka.properties]\n"client.id" = "a\\u0000b"\n')
    with pytest.raises(ConfigurationError, match=r"kafka\.properties.*NUL"):
        load_settings()
    Path("gnomon.toml").unlink()
    monkeypatch.setenv("GNOMON_KAFKA__PROPERTIES", '{"sasl.password": "\\ud800"}')
    with pytest.raises(ConfigurationError, match=r"kafka\.properties.*UTF-8"):
        load_settings()
