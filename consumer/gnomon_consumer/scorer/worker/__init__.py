"""What runs in the sandboxed worker process. It imports nothing of the scorer's side."""
