"""Scoring of registered pairs and of result folders; imports utils/, models/ and datasets/, no script.

``data_options`` selects the pairs; ``protocols`` scores a registration; ``result_folders`` and ``scoring`` score the
results of any method; ``segmentation`` makes and scores class maps; ``calibration`` fits the decision
whether to accept a registration.
"""
