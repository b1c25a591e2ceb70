# Each of 4 heads has 16 channels, and a weight for each pair of them; the number of pixels plays no part.
predicted = 4 * 16 * 16

block = tcmm.CrossChannelAttention(64, heads=4)
query, key = (torch.randn(4, 64 // block.heads, 100 * 100) for _ in range(2))
assert (query @ key.mT).numel() == predicted
