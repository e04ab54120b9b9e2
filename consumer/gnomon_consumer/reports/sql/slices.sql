-- Agreement of every deployment in each value of one slice.
select e.*
from report_v1.estimates(%(stream)s, %(deployment)s, %(since)s, %(until)s, %(segment)s, %(slice)s, '{agreement}', null,
         %(time_zone)s) e
where e.n > 0
