"""Build the committed body asset."""
