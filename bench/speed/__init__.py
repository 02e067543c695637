"""Timing of the engines against each other: `snakemake --cores all speed` enters, results/speed.csv leaves.

Imports the rooms that a step is made of; nothing imports it. `python -m bench.speed` times whole steps, `python -m
bench.speed.layers` the forms that a layer's gradients can take.
"""
