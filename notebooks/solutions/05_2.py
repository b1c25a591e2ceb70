# 100/scale times something is 2.0, so something is 2.0 · 8 / 100; times 100 · 8 that is 2.0 · 8².
printed = 2.0 * 8**2
