# What one pixel of a box gains its neighbour loses: the mean of the box does not notice.
def twin(x, scale):
    pattern = torch.zeros(scale, scale)
    pattern[0, 0], pattern[0, 1] = 0.1, -0.1
    return x + pattern.repeat(x.shape[2] // scale, x.shape[3] // scale)
