-- Why a window did not sample all that it saw; null where it did, or where an earlier version of Gnomon sealed it.

ALTER TABLE gnomon.windows ADD COLUMN limited_by TEXT;

COMMENT ON TABLE gnomon.windows IS 'The ledger by window: [start_offset, end_offset) of one source partition. `seen` is the scorer''s claim, `joined_seen` what the joiner read there, `joined_missing` the claimed captures it could no longer read (expired); `shadow_offset` is where the seal stands in the shadow topic; `limited_by` says why not all of it was sampled.';
