"""The page with the paper's tables."""
