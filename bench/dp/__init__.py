"""The mechanism: a network and a batch enter; admission, the clipped and noised gradient and what it spends leave.

It imports names and layers, and knows neither plan nor data.
"""
