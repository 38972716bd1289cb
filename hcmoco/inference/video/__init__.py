"""Videos in and out: frames of a file as they are shown, and a file of frames."""
