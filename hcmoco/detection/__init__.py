"""Find people and their joints in pictures, with detectors of other people's making."""
