"""Look over every node of a cluster: what each of them measures, what that means, and the line that mends a fault."""
