"""PostgreSQL: connections, declared tables, and the upkeep of the data."""
