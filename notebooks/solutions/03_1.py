levels = diffusion.Schedule.linear(TINY.timesteps).alpha_bar.sqrt()
first = int((levels < 0.5).nonzero()[0])
