"""The body of a synthetic person: mesh, pose, joints, clothing, surface labels."""
