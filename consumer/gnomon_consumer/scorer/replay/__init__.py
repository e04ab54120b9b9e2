"""Score recorded windows again."""
