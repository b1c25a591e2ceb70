# The two hypotheses' log-odds: 2 · signal · x_t / sigma² from the observation, log(0.9 / 0.1) from the coin.
import math
def biased(x_t, signal):
    return torch.tanh(signal * x_t / (1 - signal**2) + 0.5 * math.log(9))
