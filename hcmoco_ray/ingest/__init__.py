"""Ray Data carries out the sampler's plan."""
