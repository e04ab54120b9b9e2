-- The horizons of a stream for which any request is old enough.
select distinct c.horizon::text as horizon, c.horizon as length
from report_v1.cohorts c join report_v1.deployments d using (deployment_id)
where d.stream = %(stream)s
order by c.horizon
