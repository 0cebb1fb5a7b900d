"""What the networks stand on, and rooms for what stands on the networks.

The flat files here, ``files/``, ``metrics/`` and ``figures/`` are the ground: of models/ they import ``warping.py``
alone, which imports nothing of the project. ``evaluation/``, ``training/`` and ``benchmark/`` stand above models/,
datasets/ and losses/. Nothing imports a script.
"""
