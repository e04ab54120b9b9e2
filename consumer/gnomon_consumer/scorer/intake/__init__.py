"""Read the live topic: assignment of partitions, resume from the shadow log, drain."""
