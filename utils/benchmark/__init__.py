"""What the networks cost: see ``benchmark.py``."""
