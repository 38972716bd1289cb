"""Grids of fine-tunings: label fractions and the ablation."""
