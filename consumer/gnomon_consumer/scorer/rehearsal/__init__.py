"""Score examples before or instead of live traffic: warm-up, golden check, load test."""
