"""Methods by name, for `super_resolve` and for the benchmark: what there is to compare with."""
