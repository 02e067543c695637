"""The mechanism: sampling, clipped gradient sums, noise, accounting, and the test that admits a network."""
