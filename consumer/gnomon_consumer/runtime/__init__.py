"""Common parts of long-running commands: logging, metrics, signals, supervision, outages."""
