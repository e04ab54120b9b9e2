"""Merge the two logs by source offset, window by window. Pure: no input or output."""
