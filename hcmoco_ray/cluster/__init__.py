"""Joining or starting a Ray cluster, and what has to hold before a run."""
