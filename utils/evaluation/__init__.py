"""Scoring of pairs and of result folders; imports utils/, models/ and datasets/, no script.

``data_options`` which pairs; ``protocols`` how a registration is scored; ``result_folders`` and ``scoring`` other
methods' results; ``segmentation`` class maps and their scores.
"""
