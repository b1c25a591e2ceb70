# Both images have the same bands, so their number doesn't matter: only the pixels do, scale × scale for each coarse one.
answer = (8 * 8, 4 * 4)
