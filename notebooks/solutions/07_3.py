# Any order of the pixels has the same mean. So has x plus a pattern of mean 0, or its mirror image about its own mean.
def fool(x):
    return 2 * x.mean((2, 3), keepdim=True) - x
