# The blur reads 4 px beyond the training area, rows 64 to 67: an area that begins there shares no pixel, and leaks.
leaking = (64, 0, 16, 48)
