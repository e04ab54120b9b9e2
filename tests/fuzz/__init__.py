"""Coverage-guided fuzzing of what is read from outside; see `python -m tests.fuzz`."""
