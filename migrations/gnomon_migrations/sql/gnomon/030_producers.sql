-- One row a (deployment, producer run): what the joiner received from it, and what its last heartbeat reported.
-- repeated: sequence numbers that occurred more than once, if that can be detected: inside one window, or because there
-- were more messages than numbers between the lowest and the highest. missing: numbers absent between those two. tail:
-- offered after the highest one received, known only after the run has closed.
create or replace view gnomon.producers as
select d.stream_id,
       t.deployment_id,
       t.producer_id,
       t.received,
       t.repeated + greatest(-gap.open, 0) as repeated,
       t.lowest_sequence,
       t.highest_sequence,
       greatest(gap.open, 0) as missing,
       t.first_captured_at,
       t.last_captured_at,
       r.service,
       r.host,
       r.pid,
       r.started_at,
       r.reported_at,
       r.offered,
       r.delivered,
       r.dropped,
       r.sampled_out,
       r.switched_off,
       coalesce(r.closed, false) as closed,
       case when r.closed then greatest(r.offered - 1 - t.highest_sequence, 0) end as tail
from (select deployment_id, producer_id,
             sum(received)::bigint as received, sum(repeated)::bigint as repeated,
             min(lowest_sequence) as lowest_sequence, max(highest_sequence) as highest_sequence,
             min(first_captured_at) as first_captured_at, max(last_captured_at) as last_captured_at
        from gnomon.producer_tallies group by deployment_id, producer_id) t
cross join lateral (select t.highest_sequence - t.lowest_sequence + 1 - (t.received - t.repeated) as open) gap
join gnomon.deployments d using (deployment_id)
left join gnomon.producer_reports r using (stream_id, producer_id);
