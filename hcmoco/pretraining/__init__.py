"""Pre-training: the objective on a model, step by step, and its probes."""
