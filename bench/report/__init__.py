"""From numbers to what is read: records and tables enter; the page, its figures and the committed documents leave.

It imports evidence and plan, and never torch.
"""
