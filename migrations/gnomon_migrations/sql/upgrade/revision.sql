-- The revision of the tables.
select version_num from gnomon.alembic_version
