"""The audit: a claim of privacy enters, made by the shipped loop on a small task; tests of what it released leave.

It imports plan, data, layers, dp, training and evidence.
"""
