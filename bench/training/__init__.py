"""How a run comes about: a specification, a data set and a noise multiplier enter; a record, or a checkpoint, leaves.

It imports the rooms of what a run is made of (plan, data, models, dp), and of evidence the file format of records.
"""
