"""Cross-modality supervision and missing-modality inference."""
