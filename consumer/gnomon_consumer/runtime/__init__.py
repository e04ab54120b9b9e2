"""What every long-running command needs: logging, metrics, signals, supervision, outages."""
