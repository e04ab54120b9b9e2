-- How a deployment's answers are compared: decisions if live decides, else values, else rankings; null if nothing can
-- be compared. The newest pairs decide; if they have expired, the rollups.
create function gnomon_estimators.compares(deployment_id integer) returns table (compares text)
    language sql stable parallel safe rows 1 as -- planner note 9
$$
    select coalesce(
        (select case when bool_or(p.live_label is not null) then 'decisions'
                     when bool_or(p.live_value is not null) then 'values'
                     when count(*) > 0 then 'rankings' end
         from (select q.live_label, q.live_value, q.comparable from gnomon_estimators.pairs q
               where q.deployment_id = compares.deployment_id order by q.event_time desc limit 1000) p
         where p.comparable),
        (select 'decisions' where exists (select from gnomon_estimators.rollup_labels l
                                          where l.deployment_id = compares.deployment_id)),
        (select 'values' where exists (select from gnomon_estimators.rollups r
                                       where r.deployment_id = compares.deployment_id and r.valued > 0)))
$$;
