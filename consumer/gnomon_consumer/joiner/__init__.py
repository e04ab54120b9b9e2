"""Merge join of the shadow log with the live log, and the sink that writes pairs and ledger to PostgreSQL."""
