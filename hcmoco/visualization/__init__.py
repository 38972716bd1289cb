"""Drawing that the tasks and prediction share."""
