"""The diffusion: noise schedules, what a network learns, samplers, and the spectral subspace; it knows no network."""
