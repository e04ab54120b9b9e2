"""The decisions on what is sampled: reservoirs, allocation, budget, breaker. Pure: no input or output."""
