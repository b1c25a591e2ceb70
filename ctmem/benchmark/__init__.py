"""The benchmark: `python -m ctmem.benchmark`; scenes × cameras × methods × references × seeds, into one table."""
