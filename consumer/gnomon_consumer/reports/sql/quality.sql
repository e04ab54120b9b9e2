-- Every measure of quality that the stream's labels allow, for one horizon.
select e.*, %(horizon)s::text as horizon
from report_v1.estimates(%(stream)s, %(deployment)s, %(since)s, %(until)s, %(segment)s, 'all',
         '{label_coverage,accuracy,precision,recall,log_loss,brier,rmse,mae,ndcg@10}', %(horizon)s::interval,
         %(time_zone)s) e
where e.n > 0
