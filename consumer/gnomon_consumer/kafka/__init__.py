"""Kafka clients, topics and consumer groups for all commands."""
