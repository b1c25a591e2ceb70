"""Training, from scenes to weights: `python -m ctmem.train`."""
