"""Render posed people and their surroundings to RGB and depth images."""
