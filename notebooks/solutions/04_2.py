# A window can begin at 400 − 8 + 1 places in each direction.
candidates = (400 - 8 + 1) ** 2 * 8
