"""What is asked for: `config.yaml` enters; studies, their runs and every refusal leave.

It imports names and plugins, and needs no torch, since the Snakefile and `bench status` start with it.
"""
