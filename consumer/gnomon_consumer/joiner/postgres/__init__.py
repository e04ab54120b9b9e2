"""Write joined windows to PostgreSQL, each in one transaction."""
