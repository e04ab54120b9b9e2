"""Kafka clients, topics and consumer groups as every command uses them."""
