"""Llama-like models, computed by ourselves: the same numbers as transformers', sooner.

`decode` samples from a preallocated key-value cache, in which the samples of a prompt share what
was read of it; `logprobs` computes a training batch in which they share one pass over the prompt,
and no padding costs a matrix product. A `recording` keeps for it what was computed while sampling.
Both read the weights of the transformers model in place.
What `covers` does not know is left to transformers.
"""
