"""The convergence study: which objective needs the fewest iterations, samples and CPU seconds."""
