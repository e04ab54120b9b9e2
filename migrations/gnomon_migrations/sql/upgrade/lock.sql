-- Let one upgrade run at a time: the next one waits until the transaction of the first ends.
select pg_advisory_xact_lock(:key)
