"""The surroundings of synthetic people: rooms, streets, props and materials."""
