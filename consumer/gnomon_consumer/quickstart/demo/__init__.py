"""The demo: the flights of 2013, their live service, and what the user sees."""
