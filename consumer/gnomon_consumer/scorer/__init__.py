"""The scorer: drain the live topic, sample, run the model in worker processes, seal windows in transactions."""
