"""Visualisation: pictures, curves and tables; imports utils/ and models/warping.py, no network.

``overlays`` draws one image over another, ``flows`` draws flows, ``sheets`` arranges pictures side by side,
``pair_sheet`` makes the sheet of one pair; ``curves`` and ``tables`` present scores.
"""
