"""Quality measures of fusion, registration, alignment and segmentation; imports models/warping.py, no network.

A metric is a function and an entry in ``METRICS`` of ``fusion``, ``registration`` or ``alignment``, which also states
whether higher or lower is better (``registry``). The other modules define the functions; they share ``filters``.
"""
