"""Build the page with the paper's tables."""
