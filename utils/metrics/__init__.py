"""Quality measures of fusion, registration, alignment and segmentation; imports models/warping.py, no network.

A metric is a function and one entry in a ``METRICS``, of ``fusion``, ``registration`` or ``alignment``, which also says
whether higher or lower is better (``registry``). The other files hold the functions, ``filters`` what they share.
"""
