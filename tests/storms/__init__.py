"""Storms: the shipped commands on three Kafka nodes under random faults; see `python -m tests.storms`."""
