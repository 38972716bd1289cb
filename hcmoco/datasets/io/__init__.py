"""Readers of file formats, hardened against damage."""
