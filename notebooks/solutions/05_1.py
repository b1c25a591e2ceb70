# The scalar product of two vectors is the product of their lengths and the cosine between them. Rounding may carry the
# cosine of parallel vectors just beyond 1, where the arccos is NaN: hence the clamp.
def angle(a, b):
    cosine = (a @ b) / (a.norm() * b.norm())
    return torch.rad2deg(torch.arccos(cosine.clamp(-1, 1)))
