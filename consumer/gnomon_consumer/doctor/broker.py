"""The doctor's checks of Kafka: topics, settings, schemas, and whether captures can be read."""

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import ClusterMetadata, ConfigResource, ResourceType

from gnomon_consumer.doctor.finding import Finding
from gnomon_consumer.kafka import clients, log_reading, sizes, topic_ids
from gnomon_consumer.kafka.errors import kafka_error
from gnomon_consumer.kafka.topics import TopicPlan, plan
from gnomon_consumer.settings import Settings
from gnomon_schemas.codec import Reader
from gnomon_schemas.errors import DecodeError, DependencyUnreachableError, GnomonError
from gnomon_schemas.registry import registry_client, registry_properties, registry_schemas
from gnomon_schemas.store import ChainedSchemas, TopicSchemas, packaged_schemas
from gnomon_schemas.topics import Topics

Config = Mapping[str, Any]
FOR_EVER = 2**63


@dataclass(frozen=True, slots=True, kw_only=True)
class InternalTopic:
    """A topic of Kafka's own, the broker settings of its replicas, and what does not work without it.

    `factor` names the setting of how many replicas it has, `least` that of how many must be in sync.
    """

    check: str
    name: str
    factor: str
    least: str
    effect: str


INTERNAL_TOPICS = (
    InternalTopic(
        check="groups",
        name="__consumer_offsets",
        factor="offsets.topic.replication.factor",
        least="min.insync.replicas",
        effect="`gnomon join` and `gnomon labels consume` get no partitions",
    ),
    InternalTopic(
        check="transactions",
        name="__transaction_state",
        factor="transaction.state.log.replication.factor",
        least="transaction.state.log.min.isr",
        effect="`gnomon score` cannot begin a transaction",
    ),
)


def answers(settings: Settings) -> Generator[Finding, None, ClusterMetadata | None]:
    """Check that a broker answers; return its metadata, or None without an answer."""
    try:
        metadata = clients.list_topics(settings)
    except DependencyUnreachableError as error:
        yield Finding("broker", "unreachable", str(error), "check bootstrap_servers and the broker's listeners")
        return None
    except GnomonError as error:
        yield Finding("broker", "failed", str(error), "change what the line names")
        return None
    kind = "librdkafka's mock cluster" if clients.is_mock(metadata) else "Kafka"
    yield Finding("broker", "ok", f"{kind} at {settings.bootstrap_servers}, {len(metadata.brokers)} broker(s)")
    return metadata


def examine_topics(settings: Settings, metadata: ClusterMetadata) -> Iterator[Finding]:
    """Check topics and their partitions; with an admin API, also the settings of topics and broker."""
    names = Topics(settings.require_stream(), settings.topic_prefix)
    live = metadata.topics.get(names.live)
    partitions = len(live.partitions) if live is not None else 0
    shadow_prefix = f"{names.prefix}.{names.stream}.shadow."
    deployments = [name.removeprefix(shadow_prefix) for name in metadata.topics if name.startswith(shadow_prefix)]
    planned = plan(names, max(partitions, 1), deployments)
    for wanted in planned:
        topic = metadata.topics.get(wanted.name)
        if topic is None:
            denied = None if clients.is_mock(metadata) else topic_ids.denial_of(settings, wanted.name)
            said = f"{wanted.name} is missing" if denied is None else str(denied)
            remedy = "run `gnomon topics create`" if denied is None else "grant it, also the other rights of that page"
            yield Finding("topics", "failed", said, remedy)
        elif len(topic.partitions) < wanted.partitions and wanted.name.startswith(shadow_prefix):
            yield Finding(
                "topics",
                "failed",
                f"{wanted.name} has {len(topic.partitions)} partitions, {names.live} has {partitions}",
                f"run `gnomon topics create --partitions {partitions} --deployment"
                f" {wanted.name.removeprefix(shadow_prefix)}`",
            )
        elif without := sum(partition.leader < 0 for partition in topic.partitions.values()):
            text = f"{without} of {len(topic.partitions)} partitions of {wanted.name} have no leader: nobody reads or"
            yield Finding("topics", "failed", f"{text} writes them", "start the brokers that hold them")
        else:
            yield Finding("topics", "ok", f"{wanted.name}, {len(topic.partitions)} partitions")
    if not clients.is_mock(metadata):
        there = [item for item in planned if item.name in metadata.topics]
        resources = [(ResourceType.TOPIC, item.name) for item in there]
        resources += [(ResourceType.BROKER, str(broker)) for broker in metadata.brokers]
        try:
            found = _configs(settings, resources)
        except KafkaException as error:
            text = f"settings cannot be read: {kafka_error(error).str()}"
            yield Finding("topics", "note", text, "allow DescribeConfigs on topics and cluster to check them")
            return
        yield from _topic_settings(names, there, {item.name: found[ResourceType.TOPIC, item.name] for item in there})
        for broker in metadata.brokers:
            yield from _transactions(str(broker), found[ResourceType.BROKER, str(broker)])
        if metadata.brokers:
            any_broker = found[ResourceType.BROKER, str(min(metadata.brokers))]
            yield from _internal_topics(settings, metadata, any_broker)


def _configs(settings: Settings, resources: list[tuple[ResourceType, str]]) -> dict[tuple[ResourceType, str], Config]:
    admin = clients.make_admin(settings)
    found: dict[tuple[ResourceType, str], Config] = {}
    for kind, name in resources:  # a request may name one broker only
        asked = admin.describe_configs([ConfigResource(kind, name)], request_timeout=settings.kafka.timeout_seconds)
        (future,) = asked.values()
        found[kind, name] = {key: entry.value for key, entry in future.result().items()}
    return found


def _number(config: Config, name: str) -> int | None:
    """Return a setting that is a number; None if the broker does not tell it, or tells what is not a number."""
    try:
        return int(config[name])
    except (KeyError, TypeError, ValueError):
        return None


def _untold(check: str, of: str, names: list[str]) -> Iterator[Finding]:
    if names:
        yield Finding(check, "note", f"the broker does not tell {', '.join(names)} of {of}", "check them yourself")


def _topic_settings(names: Topics, planned: list[TopicPlan], found: Mapping[str, Config]) -> Iterator[Finding]:
    """Check settings that lose data silently, or keep data too long."""

    def kept(topic: str) -> int | None:
        milliseconds = _number(found.get(topic, {}), "retention.ms")
        return FOR_EVER if milliseconds is not None and milliseconds < 0 else milliseconds

    def wrong(topic: str, is_: str, setting: str) -> Finding:
        remedy = f"set it: kafka-configs --alter --topic {topic} --add-config {setting}"
        return Finding("topics", "failed", f"{topic} has {is_}", remedy)

    live = kept(names.live)
    for item in planned:
        policy, limit = found[item.name].get("cleanup.policy"), _number(found[item.name], "max.message.bytes")
        own = kept(item.name)
        told = {"cleanup.policy": policy, "max.message.bytes": limit, "retention.ms": own}
        yield from _untold("topics", item.name, [name for name, value in told.items() if value is None])
        wanted = set(item.config["cleanup.policy"].split(","))
        if policy is not None and (has := {word.strip() for word in policy.split(",")}) != wanted:
            policy = f"cleanup.policy={','.join(sorted(has))}"
            yield wrong(item.name, policy, f"cleanup.policy=[{','.join(sorted(wanted))}]")
        if limit is not None and limit < sizes.LEAST_BYTES:
            yield wrong(
                item.name, f"max.message.bytes={limit}, too small for Gnomon's records", "max.message.bytes=1048588"
            )
        if live is None or own is None:
            continue
        setting = f"retention.ms={live if live < FOR_EVER else -1}"
        if item.name.startswith(names.shadow("x").removesuffix("x")) and own < live:
            # Live records that outlive the shadow's could be scored, but never joined.
            yield wrong(item.name, f"retention.ms={own}, less than the live topic", setting)
        if item.name == names.dead_letters and own > live:
            yield wrong(item.name, "a longer retention.ms than the live topic, whose captures it holds", setting)


_TIMES = {
    # setting: (what a broker keeps for that time, units in a day)
    "transactional.id.expiration.ms": ("transactional ids", 86_400_000),
    "offsets.retention.minutes": ("group offsets", 1440),
}


def _transactions(broker: str, config: Config) -> Iterator[Finding]:
    longest = _number(config, "transaction.max.timeout.ms")
    if longest is None:
        yield from _untold("transactions", f"broker {broker}", ["transaction.max.timeout.ms"])
    elif longest < clients.TRANSACTION_TIMEOUT_MS:
        yield Finding(
            "transactions",
            "failed",
            f"broker {broker} allows transactions of at most {longest} ms, the scorer needs"
            f" {clients.TRANSACTION_TIMEOUT_MS}",
            f"raise the broker's transaction.max.timeout.ms to {clients.TRANSACTION_TIMEOUT_MS}",
        )
        return
    kept = [
        f"{what} for {time / day:g} days"
        for name, (what, day) in _TIMES.items()
        if (time := _number(config, name)) is not None
    ]
    if kept:
        text = f"broker {broker} keeps {', '.join(kept)}, which does not affect where a service resumes"
        yield Finding("transactions", "ok", text)
    elif longest is not None:
        yield Finding("transactions", "ok", f"broker {broker} allows transactions of {longest} ms")


def _internal_topics(settings: Settings, metadata: ClusterMetadata, broker: Config) -> Iterator[Finding]:
    """Check the topics in which Kafka keeps groups and transactions, if this user may see them."""
    for internal in INTERNAL_TOPICS:
        topic = (ResourceType.TOPIC, internal.name)
        if internal.name not in metadata.topics:
            if topic_ids.denial_of(settings, internal.name) is None:
                yield from missing_internal_topic(internal, len(metadata.brokers), broker)
            continue
        try:
            least = _number(_configs(settings, [topic])[topic], "min.insync.replicas") or 1
        except KafkaException:
            continue
        yield from internal_replicas(internal, metadata, least)


def missing_internal_topic(internal: InternalTopic, brokers: int, broker: Config) -> Iterator[Finding]:
    """Check that a topic that does not exist yet can be made; `broker` holds the settings of any broker.

    Kafka's own defaults need three brokers. Where there are fewer, clients wait and are not told why. A factor of -1
    is the controller's default, which the broker does not know.
    """
    factor, least = _number(broker, internal.factor), _number(broker, internal.least) or 1
    if factor is None or factor < 1:
        return
    if brokers < factor:
        text = f"{internal.name} needs {factor} brokers, and there are {brokers}: {internal.effect}"
        lower = f" and {internal.least}={brokers}" if least > brokers else ""
        remedy = f"set {internal.factor}={brokers}{lower} on every broker, or start more brokers"
        yield Finding(internal.check, "failed", text, remedy)
    elif factor < least:
        text = f"{internal.name} gets a replication factor of {factor} and needs {least} replicas in sync"
        remedy = f"set {internal.least} to at most {factor} on every broker"
        yield Finding(internal.check, "failed", f"{text}: {internal.effect}", remedy)


def internal_replicas(internal: InternalTopic, metadata: ClusterMetadata, least: int) -> Iterator[Finding]:
    """Check that each partition has a leader, and at least `least` replicas in sync."""
    partitions = metadata.topics[internal.name].partitions
    # The last replica stays in sync when its broker ends, but then nobody leads the partition.
    without = sum(partition.leader < 0 for partition in partitions.values())
    few = sum(len(partition.isrs) < least for partition in partitions.values())
    if without:
        text = f"{without} of {len(partitions)} partitions of {internal.name} have no leader: {internal.effect}"
        yield Finding(internal.check, "failed", text, "start the other brokers")
    elif few:
        text = f"{few} of {len(partitions)} partitions of {internal.name} have fewer than {least} replicas in sync"
        remedy = f"start the other brokers, or lower min.insync.replicas of {internal.name}"
        yield Finding(internal.check, "failed", f"{text}: {internal.effect}", remedy)


def examine_schemas(settings: Settings, metadata: ClusterMetadata) -> Iterator[Finding]:
    """Check the schemas of the stream: in its topic, in the registry, and for its newest captures."""
    names = Topics(settings.require_stream(), settings.topic_prefix)
    properties = settings.kafka.properties
    if registry_properties(properties):
        try:
            with registry_client(properties) as client:
                subjects = client.get_subjects()
        except GnomonError as error:
            yield Finding("registry", "failed", str(error), "fix the schema.registry.* properties")
            return
        except Exception as error:  # noqa: BLE001  # the client raises what its HTTP library raises
            text = f"the schema registry does not answer: {' '.join(str(error).split())}"
            yield Finding("registry", "unreachable", text, "check schema.registry.url and its credentials")
            return
        yield Finding("registry", "ok", f"the schema registry answers, {len(subjects)} subjects")
    store = TopicSchemas(clients.client_config(settings), names.schemas, timeout_s=settings.kafka.timeout_seconds)
    try:
        store.refresh()
        known, rejected = len(store.live_schemas()), store.rejected
        text = f"{names.schemas} holds {known} schemas of captures"
        if rejected:
            text += f", and {rejected} records that are not schemas"
        yield Finding("schemas", "note" if rejected else "ok", text)
        live = metadata.topics.get(names.live)
        if live is not None:
            with registry_schemas(properties) as registry:
                chained = ChainedSchemas(packaged_schemas(), store, registry)
                yield from _newest(settings, names.live, len(live.partitions), Reader(chained))
    except GnomonError as error:
        away = isinstance(error, DependencyUnreachableError)
        yield Finding("schemas", "unreachable" if away else "failed", str(error), "check the topic and its rights")
    finally:
        store.close()


def _newest(settings: Settings, topic: str, partitions: int, reader: Reader) -> Iterator[Finding]:
    """Read the newest capture of every partition as a scorer would."""
    consumer = clients.make_consumer(settings, None, {"enable.partition.eof": True})
    read = 0
    try:
        for partition in range(partitions):
            source = TopicPartition(topic, partition)
            low, high = log_reading.span(consumer, source, settings.kafka.timeout_seconds)
            if high == low:
                continue
            consumer.assign([TopicPartition(topic, partition, high - 1)])
            message = consumer.poll(settings.kafka.timeout_seconds)
            if message is None or message.error() is not None:
                continue
            try:
                reader.decode(message.value())
                read += 1
            except DecodeError as error:
                yield Finding(
                    "schemas",
                    "failed" if error.reason == "unknown_schema" else "note",
                    f"{topic} [{partition}], offset {high - 1}, cannot be read: {error}",
                    "publish its writer's schema (the hook does so at its start), or see who else writes there",
                )
    except KafkaException as error:
        text = f"{topic} cannot be read: {kafka_error(error).str()}"
        yield Finding("schemas", "unreachable", text, "check the topic and its rights")
    finally:
        consumer.close()
    yield Finding("schemas", "ok", f"the newest captures of {read} partitions can be read")


def identity(settings: Settings, metadata: ClusterMetadata) -> tuple[str, dict[str, str | None]]:
    """Return the cluster's id, and those of the live and labels topics where these exist."""
    names = Topics(settings.require_stream(), settings.topic_prefix)
    there = [name for name in (names.live, names.labels) if name in metadata.topics]
    known = topic_ids.TopicIds(settings, metadata, *there).known if there else {}
    return str(getattr(metadata, "cluster_id", None) or ""), known


def first_offsets(settings: Settings, metadata: ClusterMetadata) -> dict[int, int]:
    """Return the first offset that the live topic still holds, by partition; raise KafkaException."""
    topic = Topics(settings.require_stream(), settings.topic_prefix).live
    live = metadata.topics.get(topic)
    consumer = clients.make_consumer(settings)
    try:
        return {
            partition: log_reading.span(consumer, TopicPartition(topic, partition), settings.kafka.timeout_seconds)[0]
            for partition in (live.partitions if live is not None else ())
        }
    finally:
        consumer.close()
