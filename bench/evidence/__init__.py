"""From records to numbers: record files enter; tables, intervals, paired differences and verdicts leave.

It imports plan, and never torch: what it says of a run stands in the run's record.
"""
