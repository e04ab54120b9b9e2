"""The basis of measurements: brokers, processes on separate cores, captures, models."""
