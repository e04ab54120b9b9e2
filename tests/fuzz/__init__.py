"""Coverage-guided fuzzing of external input; see `python -m tests.fuzz`."""
