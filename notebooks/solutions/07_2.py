# Rows to length 1, so that their products are cosines; a softmax along the keys; the values are mixed with that.
def attend(query, key, value, temperature):
    likeness = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).mT
    return (likeness * temperature).softmax(-1) @ value
