"""Depth cameras beside color cameras: their lenses, their places, and depth as the color camera would see it."""
