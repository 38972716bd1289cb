"""Embed whole sets of people on a cluster, and find who is nearest."""
