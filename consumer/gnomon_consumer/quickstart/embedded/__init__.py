"""Embedded servers: librdkafka's mock cluster and a private PostgreSQL."""
