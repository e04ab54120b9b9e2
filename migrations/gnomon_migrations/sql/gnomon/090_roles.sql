-- Grant the two roles the rights that they need and no others; do nothing for a role that does not exist (`gnomon db
-- roles` creates them). gnomon_writer owns nothing and may not truncate; gnomon_reader may read the reading API and the
-- estimators behind it, and no table.
create or replace function gnomon.grant_roles() returns void
    language plpgsql set search_path = pg_catalog, pg_temp as
$$
declare
    name text;
begin
    revoke all on function gnomon.ensure_partition(integer, timestamptz) from public;
    if exists (select from pg_roles where rolname = 'gnomon_writer') then
        grant usage on schema gnomon to gnomon_writer;
        grant select, insert, update, delete on all tables in schema gnomon to gnomon_writer;
        grant usage on all sequences in schema gnomon to gnomon_writer;
        grant execute on function gnomon.ensure_partition(integer, timestamptz) to gnomon_writer;
        revoke insert, update, delete on gnomon.alembic_version, gnomon.view_versions from gnomon_writer;
    end if;
    for name in select nspname from pg_namespace where nspname like 'report\_v%' or nspname = 'gnomon_estimators' loop
        execute format('revoke all on all functions in schema %I from public', name);
        if exists (select from pg_roles where rolname = 'gnomon_reader') then
            execute format('grant usage on schema %I to gnomon_reader', name);
            execute format('grant select on all tables in schema %I to gnomon_reader', name);
            execute format('grant execute on all functions in schema %I to gnomon_reader', name);
        end if;
        if exists (select from pg_roles where rolname = 'gnomon_writer') then
            execute format('grant usage on schema %I to gnomon_writer', name);
            execute format('grant select on all tables in schema %I to gnomon_writer', name);
            execute format('grant execute on all functions in schema %I to gnomon_writer', name);
        end if;
    end loop;
end
$$;
