"""What measurements stand on: brokers, processes on a core of their own, captures, models."""
