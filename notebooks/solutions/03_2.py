def ddim(x_t, x0, a, a_next):
    noise = (x_t - a**0.5 * x0) / (1 - a) ** 0.5  # what must have been added
    return a_next**0.5 * x0 + (1 - a_next) ** 0.5 * noise
