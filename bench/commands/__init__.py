"""What the verbs of `bench` do: options enter, files and lines on the terminal leave. `runs.py` goes up to a run's record,
`results.py` on from records.

It imports any room but audit and exchange, whose verbs stand with them, and torch only inside the functions that need it.
"""
