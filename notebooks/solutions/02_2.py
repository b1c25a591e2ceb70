# FWHM and σ differ by a constant factor, so the squares of the widths add as the variances do: 3² + 4² = 5².
fwhm = (3**2 + 4**2) ** 0.5
