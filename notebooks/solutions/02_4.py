# Second moments about the centroid; their eigenvalues are the variances along the axes.
def widths(psf):
    offsets = torch.arange(len(psf), dtype=torch.float64)
    weights = psf.double() / psf.double().sum()
    places = torch.stack(torch.meshgrid(offsets, offsets, indexing="ij")).flatten(1)
    centred = places - (places * weights.flatten()).sum(1, keepdim=True)
    variances = torch.linalg.eigvalsh((centred * weights.flatten()) @ centred.T)
    return (8 * torch.log(torch.tensor(2.0)) * variances).sqrt().flip(0).tolist()
