"""Cross-modality supervision and missing-modality inference (paper, sections 3.5 and 5.4): a parsing head on the dense embeddings, trained
together with the contrastive objective, on one modality or on the maximum of both, and read on the other."""
