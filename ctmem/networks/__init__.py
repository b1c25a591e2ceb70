"""Networks: the denoiser TCMM and its Mamba blocks, the baseline CNN, the paper's kernel network, and the wirings."""
