"""Pictures, curves and tables for people; imports utils/ and models/warping.py, no network.

``overlays`` lays one image over another, ``flows`` paints flows, ``sheets`` puts pictures side by side, ``pair_sheet``
makes the sheet of one pair; ``curves`` and ``tables`` show scores.
"""
