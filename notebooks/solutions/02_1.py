# exp(−x² / 2σ²) is a half at x = σ·√(2·ln 2); the full width is twice that.
sigma = 4 / (2 * (2 * torch.tensor(2.0, dtype=torch.float64).log()).sqrt())
