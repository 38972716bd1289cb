"""From a posed scene to RGB and depth images."""
