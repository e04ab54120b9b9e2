-- Store the checksum of a folder whose functions and views were created again.
insert into gnomon.view_versions (name, sha256) values (:name, :sha256)
on conflict (name) do update set sha256 = excluded.sha256, applied_at = now()
