# Split both sides into boxes, then take the mean over what lies within a box.
def box_down(x, scale):
    return x.unflatten(3, (-1, scale)).unflatten(2, (-1, scale)).mean((3, 5))
