"""From a sealed window to a committed transaction."""
