# The angle doesn't see brightness: half of every spectrum points where the whole one does.
def fool(truth):
    return 0.5 * truth
