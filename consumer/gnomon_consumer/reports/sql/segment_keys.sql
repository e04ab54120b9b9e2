-- The segments that a stream's pairs carry, by key, most values first left out: a key with more values than can be
-- read is no segment. Looks at the latest pairs only.
select s.key, count(distinct s.value) as values
from (select p.segments from report_v1.pairs_of(%(stream)s, null, %(since)s, %(until)s, null) p
      order by p.event_time desc limit 20000) latest
cross join lateral jsonb_each_text(latest.segments) s(key, value)
group by s.key
having count(distinct s.value) between 2 and %(most)s
order by 2, 1
limit %(keys)s
