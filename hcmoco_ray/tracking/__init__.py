"""Log to MLflow through one writer, and show progress."""
