"""The task `arithmetic`: sums and differences; needs no toolchain."""
