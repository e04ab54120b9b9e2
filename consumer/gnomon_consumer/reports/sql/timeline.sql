-- One row a deployment and day, from the hourly sums that the joiner keeps.
select r.deployment, r.role, (r.hour at time zone %(time_zone)s)::date as day, sum(r.seen)::bigint as seen,
       sum(r.sampled)::bigint as sampled, sum(r.sampled) / nullif(sum(r.seen), 0)::float8 as sampling_fraction,
       sum(r.agreed_weight) / nullif(sum(r.comparable_weight), 0) as agreement,
       sum(r.failed_weight + r.timed_out_weight) / nullif(sum(r.weight), 0) as shadow_error_rate,
       sum(r.live_failed_weight) / nullif(sum(r.weight), 0) as live_error_rate
from report_v1.rollups r
where r.stream = %(stream)s and (%(deployment)s::text is null or r.deployment = %(deployment)s or r.role = 'control')
  and r.hour >= coalesce(%(since)s::timestamptz, '-infinity') and r.hour < coalesce(%(until)s::timestamptz, 'infinity')
group by 1, 2, 3
order by 1, 3
