"""The servers of the tests: one Apache Kafka and one PostgreSQL a run, started when first needed."""
