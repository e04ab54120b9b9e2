"""Read the live log and the shadow log together."""
