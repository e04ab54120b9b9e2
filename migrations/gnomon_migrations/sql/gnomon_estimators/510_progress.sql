-- The joiner's progress in each shadow partition.
create view gnomon_estimators.progress as
select d.stream, d.deployment, d.role, j.deployment_id, j.source_partition, j.next_source_offset, j.next_shadow_offset,
       j.event_time_reached, j.caught_up, j.defaulted, j.updated_at
from gnomon.join_progress j
join gnomon_estimators.deployments d using (deployment_id);
