"""Training runs on Ray: pre-training, fine-tuning, evaluation."""
