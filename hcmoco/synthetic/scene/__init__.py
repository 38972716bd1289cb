"""What surrounds synthetic people: rooms, props, materials."""
