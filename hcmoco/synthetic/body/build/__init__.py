"""How the committed body asset was made."""
