"""The diffusion: schedules, objective, samplers, the denoising problem, the spectral subspace; it knows no network."""
