"""Parts, pose and surfaces of people on somebody's own pictures: from files to files, on one machine."""
