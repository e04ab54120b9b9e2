"""`gnomon replay`: a load test of a model with captures of the live topic."""

import dataclasses
import json

import rich_click as click

from gnomon_consumer.cli.options import setting_option, settings_options
from gnomon_consumer.settings import Settings
from gnomon_consumer.stopping import stop_on_signals


@click.command()
@settings_options(stream=True)
@click.option("--model", "location", required=True, metavar="MODEL", help="As for `gnomon score`.")
@click.option("--signature", metavar="FILE", help="Sidecar YAML, as for `gnomon score`.")
@click.option("--rate", type=click.FloatRange(0.1, 1_000_000), required=True, help="Requests a second.")
@click.option("--batch", type=click.IntRange(1, 100_000), default=1, show_default=True, help="Rows in a request.")
@click.option("--captures", type=click.IntRange(1, 10_000_000), default=2000, show_default=True, help="The newest N.")
@click.option(
    "--provider", default="CPUExecutionProvider", show_default=True, help="ONNX Runtime's execution provider."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@setting_option("--workers", "score.workers")
def replay(
    settings: Settings,
    location: str,
    signature: str | None,
    rate: float,
    batch: int,
    captures: int,
    provider: str,
    as_json: bool,
) -> None:
    """Send captures of the live topic to a model at a rate, and tell throughput, latency, CPU and memory.

    Nothing is written to Kafka.
    """
    from gnomon_consumer import kafka
    from gnomon_consumer.scorer import loadtest, models
    from gnomon_consumer.scorer.gate import SchemaGate
    from gnomon_consumer.scorer.pool import Pool
    from gnomon_consumer.scorer.rehearsal import rehearse
    from gnomon_consumer.scorer.sandbox import Limits
    from gnomon_schemas.registry import registry_schemas
    from gnomon_schemas.store import TopicSchemas
    from gnomon_schemas.topics import Topics

    score = settings.score
    spec = models.describe(location, provider=provider, signature=signature, seconds=score.call_seconds)
    names = Topics(settings.require_stream(), settings.topic_prefix)
    with stop_on_signals() as stop:
        rows = loadtest.read_captures(settings, names.live, captures)
        limits = Limits(score.memory_bytes, network=spec.kind == "server")
        pool = Pool(score.workers, spec, limits, score.call_seconds)
        store = TopicSchemas(kafka.client_config(settings), names.schemas, timeout_s=settings.kafka.timeout_seconds)
        try:
            gate = SchemaGate(store, registry_schemas(settings.kafka.properties), pool, names.schemas)
            live = gate.wait(stop.is_set)
            if live is None:
                return
            pool.start(live, stop.is_set)
            while not gate.ready([row.value for row in rows], float("inf")) and not stop.wait(0.2):
                pass
            rehearse(pool, rows[:200], batch, stop.is_set)
            report = loadtest.run(pool, rows, rate, batch, stop.is_set)
        finally:
            pool.close()
            store.close()
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(report)))
        return
    click.echo(f"requests   {report.requests} of {batch} rows, {report.failed} rows failed")
    click.echo(f"rate       {report.achieved_per_second:.1f}/s of {report.offered_per_second:g}/s offered")
    for name, figures in (("response", report.response_ms), ("service", report.service_ms)):
        click.echo(f"{name:<10} " + "  ".join(f"{key} {value:.2f} ms" for key, value in figures.items()))
    click.echo(f"CPU        {report.cpu_seconds:.2f} s, {report.cpu_cores:.2f} cores")
    click.echo(f"memory     {report.peak_rss_bytes / 2**20:.0f} MiB at most in a worker")
