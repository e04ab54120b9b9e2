"""`gnomon join`: read the shadow log and the live log, pair each outcome with its capture, write rows to PostgreSQL.

The way of a pair, a folder for each stage:

    reading/    both logs, each partition from the offsets that PostgreSQL holds; batches are decoded by column
    merge/      a merge join by source offset, window by window; gaps and repeated windows are settled here (pure)
    pairs/      complete windows become rows: pairs, ledger, rollups, dead letters, as COPY bytes (pure)
    postgres/   rows and progress are written in one transaction; a repeated window changes nothing

One thread does all of this: `loop.py` has the order of the steps, `service.py` makes the parts. The database holds the
progress. The offsets that the consumer group commits serve lag tools only. Two more threads receive signals and serve
/metrics. docs/architecture.md has the drawing, and what each stage may block on.
"""
