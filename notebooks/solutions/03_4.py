# Everything is passed on but for the level: samples then stay as noisy as they are, for clean images need no cleaning.
def deaf(denoise):
    return lambda x, level, previous: denoise(x, torch.ones_like(level), previous)
