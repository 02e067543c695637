"""The command line: words that a user types enter; files of the pipeline, lines on a terminal and an exit code leave.

It imports commands, which do the work of the pipeline's steps, and of the rooms below what it shows of them: plan, machine,
evidence and terminal. Torch and pandas are imported by verbs that need them, never here.
"""
