"""The code of the sandboxed worker process. It imports nothing from the scorer's side."""
