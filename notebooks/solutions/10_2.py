# No reference at all has a gain of 0: it is one of the rivals.
def worth(gain, controls):
    return gain - max(0.0, *controls)
