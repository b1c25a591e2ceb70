def oracle_error():
    truth = torch.randn(1, 8, 12, 20, generator=torch.Generator().manual_seed(1))
    found = diffusion.sample(
        lambda x_t, level, previous: truth, torch.zeros_like(truth), diffusion.Schedule.linear(2000), steps=3,
        generator=torch.Generator().manual_seed(2),
    )  # fmt: skip
    return float((found - truth).abs().max())
