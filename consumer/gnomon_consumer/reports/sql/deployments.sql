-- The deployments of a stream, challengers first.
select deployment, role, model_name, model_version, model_sha256, status, created_at
from report_v1.deployments where stream = %(stream)s
order by role is not distinct from 'control', created_at, deployment
