"""Sets of people in the shared space: read them, embed them, keep the embeddings, and find who is nearest."""
