-- The revision of tables and views, for every role that may read reports: each command compares it with its own.
create view report_v1.version as
select version_num::text as revision from gnomon.alembic_version;
