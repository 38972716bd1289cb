"""Grids of experiments and sweeps."""
