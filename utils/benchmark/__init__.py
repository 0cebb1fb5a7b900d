"""Time and memory of the networks, for ``benchmark.py``; may import everything but the scripts."""
