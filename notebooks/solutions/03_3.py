# Whatever noise it is handed, and whatever level: the truth. The sampler has nothing left to lose.
def oracle(truth):
    return lambda x, level, previous: truth
