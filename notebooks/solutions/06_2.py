# exp(Δ·A) is to be 0.9 and Δ·B 0.1; with Δ = 1 they can be read off.
def moving_average(u):
    ones = torch.ones_like(u)
    return selective_scan(u, ones, torch.tensor([[0.9]]).log(), 0.1 * ones, ones)
