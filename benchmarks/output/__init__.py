"""Results as tables, pages, plots and flame graphs."""
