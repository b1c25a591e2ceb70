def oracle_error():
    truth = torch.randn(1, 8, 12, 20, generator=torch.Generator().manual_seed(1))
    found = samplers.sample(
        lambda x, level, previous: truth, torch.zeros_like(truth), Schedule.linear(2000), steps=3,
        generator=torch.Generator().manual_seed(2),
    )  # fmt: skip
    return float((found - truth).abs().max())
