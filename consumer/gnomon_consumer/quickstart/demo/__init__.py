"""The demo: flights of 2013, a live service, two trained models, and a progress display."""
