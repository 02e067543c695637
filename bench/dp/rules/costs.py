"""What operations cost, and how much of them a cache holds: only speed depends on these numbers."""

# Costs of a byte moved and of a matrix product's operation, in operations of a large convolution. Measured on two cores of a
# Xeon with AVX-512 (bench/speed/NOTES.md); a GPU's ratios are similar. They only decide speed, and are fixed so that a
# machine's load cannot change the order of a run's sums.
BYTE = 30.0
PRODUCT = 1.7
# Elements of Gram matrices or patches that are formed together: what a core's cache holds; on a GPU, what hides the launches.
CACHED_ELEMENTS = {"cpu": 2**19, "cuda": 2**26}
