-- The newest verdict of each deployment of a stream.
select distinct on (deployment) deployment, verdict_id, decision, sentence, decided_at
from report_v1.verdicts where stream = %(stream)s
order by deployment, verdict_id desc
