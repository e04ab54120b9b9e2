"""With a schema registry, hook and scorer agree on the Confluent framing."""

from pathlib import Path

from tests.support import registry as registries
from tests.support.live_stream import FEATURES, audit, await_sealed, outcomes, status, sum_model
from tests.support.score_command import prepare, start
from tests.support.servers.process import Gnomon
from tests.support.tap import raw_messages

from gnomon_producer import Tap


def test_captures_framed_by_a_registry_are_scored(
    gnomon: Gnomon, mock_bootstrap: str, stream_name: str, tmp_path: Path
) -> None:
    with registries.running() as registry:
        prepare(gnomon, mock_bootstrap, stream_name)
        tap = Tap(
            stream=stream_name,
            model=("live", "1"),
            features=FEATURES,
            bootstrap_servers=mock_bootstrap,
            properties={"schema.registry.url": registry.url},
            handle_sigterm=False,
        )
        assert tap.start(60)
        for number in range(200):
            features = {"amount": float(number), "age": 0.25, "visits": 3, "country": "NZ"}
            tap.record(f"r{number}", features, value=0.5)
        assert tap.close(60)
        messages = raw_messages(mock_bootstrap, f"gnomon.{stream_name}.live")
        assert {message.value[:5] for message in messages} == {b"\x00\x00\x00\x00\x01"}
        model = sum_model(tmp_path / "sum.onnx", "amount", "age")
        scorer = start(
            gnomon,
            mock_bootstrap,
            stream_name,
            model,
            "--from",
            "earliest",
            "-X",
            f"schema.registry.url={registry.url}",
        )
        await_sealed(mock_bootstrap, stream_name, "boost", 200)
        assert scorer.terminate(12) == 0
        found = outcomes(audit(mock_bootstrap, stream_name, "boost"))
        assert {row["request_id"] for row in found.values()} == {f"r{number}" for number in range(200)}
        assert {status(row) for row in found.values()} == {"scored"}
