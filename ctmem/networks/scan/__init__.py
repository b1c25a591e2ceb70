"""The selective scan of Mamba: the recurrence, and the backends that compute it."""
