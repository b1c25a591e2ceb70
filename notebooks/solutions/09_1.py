# Nine times the pixels, two bytes a number.
size_gb = 1000 * 1000 * 3**2 * 224 * 2 / 1e9
