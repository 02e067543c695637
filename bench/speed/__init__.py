"""Timing of the engines against each other: `snakemake --cores all speed` enters, results/speed.csv leaves.

Files of pytest-benchmark, which import the rooms that a step is made of; nothing imports them.
"""
