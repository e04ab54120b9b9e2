"""Model runners behind one small interface."""
