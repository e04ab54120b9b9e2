-- The partitions of gnomon.pairs with their bounds, the default one left out.
create or replace view gnomon.pair_partitions as
select c.relname::text as partition_name,
       bound.parts[1]::timestamptz as since,
       bound.parts[2]::timestamptz as until
from pg_catalog.pg_inherits i
join pg_catalog.pg_class c on c.oid = i.inhrelid
cross join lateral regexp_match(pg_catalog.pg_get_expr(c.relpartbound, c.oid),
                                'FROM \(''([^'']+)''\) TO \(''([^'']+)''\)') as bound(parts)
where i.inhparent = 'gnomon.pairs'::regclass and bound.parts is not null;
