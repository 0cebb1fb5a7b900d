"""Utilities on two levels: below the networks, and above them.

The modules in this folder, ``files/``, ``metrics/`` and ``figures/`` are the lower level: of models/ they import only
``warping.py``, which imports nothing from the project. ``evaluation/``, ``jobs/``, ``demo/``, ``training/`` and
``benchmark/`` are above models/, datasets/ and losses/. No module imports a script.
"""
