"""Timing of the engines against each other: `snakemake --cores all speed` writes results/speed.csv."""
