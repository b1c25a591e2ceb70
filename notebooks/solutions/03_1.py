levels = Schedule.linear(TINY.timesteps).levels
first = int((levels < 0.5).nonzero()[0])
