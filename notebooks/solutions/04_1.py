# One mean per band, one length for the whole patch.
def zncc(q, k):
    q, k = (x - x.mean((1, 2), keepdim=True) for x in (q, k))
    return (q * k).sum() / (q.norm() * k.norm())
