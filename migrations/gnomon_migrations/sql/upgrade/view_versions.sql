-- The checksum of each folder of functions and views as they are in the database.
select name, sha256 from gnomon.view_versions
