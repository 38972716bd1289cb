"""MLflow, through one writer."""
