"""Fine-tuning of an encoder with a head, on any share of the labels."""
