"""Results for others, and those of others: records enter and leave as a folder that describes itself, or as one file.

It imports plan, evidence, terminal, report (the committed records) and training (what a record's numbers give again).
"""
