"""The offset at which a scorer continues in each partition: the end of the shadow log, or a deployment's start."""

from collections.abc import Callable

from confluent_kafka import Consumer, TopicPartition

from gnomon_consumer.kafka import clients
from gnomon_consumer.runtime.logging import get_logger
from gnomon_consumer.scorer.intake.live_topic import LiveTopic, grow_shadow
from gnomon_consumer.scorer.intake.shadow_tail import ShadowLog, check_identity
from gnomon_consumer.scorer.options import Options, StartAt
from gnomon_consumer.scorer.sealed.transaction import Uncertain, WindowTransaction
from gnomon_consumer.settings import Settings
from gnomon_schemas.errors import ConfigurationError, DependencyUnreachableError
from gnomon_schemas.records import Artefact, DeploymentStart
from gnomon_schemas.topics import Topics

log = get_logger("assignment")


class Resumption:
    """Finds and records the start of each partition; gives the shadow topic a partition for each later live one.

    `model` has the SHA-256 that the workers computed, after they have loaded the model.
    """

    def __init__(
        self,
        settings: Settings,
        options: Options,
        *,
        names: Topics,
        live: LiveTopic,
        model: Artefact,
        policy: str,
        stopping: Callable[[], bool],
        now_us: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._options = options
        self._names = names
        self._live = live
        self._model = model
        self._shadow_topic = names.shadow(options.deployment)
        self._policy = policy
        self._stopping = stopping
        self._now_us = now_us

    def resume(
        self, consumer: Consumer, shadow: ShadowLog, transaction: WindowTransaction, partitions: list[int]
    ) -> dict[int, int]:
        """Return the next offset of each partition; empty when stopped. Raises GnomonError or KafkaException.

        DependencyUnreachableError means: ask again, after a poll. Only a poll brings back a member that the group has
        removed.
        """
        self._grow_for(partitions, consumer)
        transaction.ready()  # our own unfinished transaction ends here, not at its time-out
        # While a transactional commit is pending, the broker delays this answer (KIP-447).
        asked = [TopicPartition(self._names.live, partition) for partition in partitions]
        answer = consumer.committed(asked, timeout=self._settings.kafka.timeout_seconds)
        committed = {one.partition: one.offset for one in answer}
        if self._stopping():
            return {}
        try:
            return self._offsets(consumer, partitions, committed, shadow, transaction)
        except Uncertain as reason:
            raise DependencyUnreachableError(f"the start of the shadow log was not written: {reason}") from None

    def _grow_for(self, partitions: list[int], consumer: Consumer) -> None:
        if not self._live.is_mock:
            known = clients.list_topics(self._settings, self._shadow_topic, consumer)
            if max(partitions) >= len(known.topics[self._shadow_topic].partitions):
                grow_shadow(self._settings, self._names, self._options.deployment, max(partitions) + 1)

    def _offsets(
        self,
        consumer: Consumer,
        partitions: list[int],
        committed: dict[int, int],
        shadow: ShadowLog,
        transaction: WindowTransaction,
    ) -> dict[int, int]:
        """Return the offset at which each partition continues; write the first record of partitions without one."""
        offsets: dict[int, int] = {}
        starts: list[DeploymentStart] = []
        for partition in partitions:
            tail = shadow.tail(partition, self._stopping)
            if tail.start is not None:
                wanted = self.start_record(partition, tail.start.start_offset)
                check_identity(wanted, tail.start, self._shadow_topic)
            if tail.end_offset is not None:
                offsets[partition] = tail.end_offset
                if committed.get(partition, -1) > tail.end_offset:
                    log.error(
                        "committed offset is ahead of the shadow log",
                        partition=partition,
                        committed=committed[partition],
                    )
            elif tail.start is not None:
                offsets[partition] = tail.start.start_offset
            elif tail.expired:
                if committed.get(partition, -1) < 0:
                    raise ConfigurationError(
                        f"{self._shadow_topic} [{partition}]: retention has removed every window and the group has no"
                        " offset, so the position is unknown: use another --deployment name"
                    )
                log.warning("resumed from the committed offset", partition=partition, offset=committed[partition])
                offsets[partition] = committed[partition]
            else:
                offset = self._first_offset(consumer, partition)
                offsets[partition] = offset
                starts.append(self.start_record(partition, offset))
        if starts:
            transaction.start(starts, consumer)
        return offsets

    def _first_offset(self, consumer: Consumer, partition: int) -> int:
        start = self._options.start if partition < self._live.first_partitions else StartAt("earliest")
        return start.offset(consumer, self._names.live, partition, self._settings.kafka.timeout_seconds)

    def start_record(self, partition: int, offset: int) -> DeploymentStart:
        """Return the first record of a shadow partition whose source begins at `offset`."""
        return DeploymentStart(
            deployment=self._options.deployment,
            role=self._options.role,
            cluster_id=self._live.cluster_id,
            topic_id=self._live.topic_id,
            source_partition=partition,
            start_offset=offset,
            model=self._model,
            seed=self._settings.score.seed,
            policy=self._policy,
            started_at=self._now_us(),
        )
