-- The pairs whose answers lie furthest apart: other labels first, then by the distance of the values.
select p.deployment, p.role, p.request_id, p.event_time, p.segments, p.live_label, p.live_value, p.shadow_label,
       p.shadow_value, abs(p.shadow_value - p.live_value) as distance, p.weight, p.features_numeric, p.features_text
from report_v1.pairs_of(%(stream)s, %(deployment)s, %(since)s, %(until)s, %(segment)s) p
where not p.agrees
order by abs(p.shadow_value - p.live_value) desc nulls last, p.event_time desc
limit %(most)s
