"""Ablations too long for a notebook: `python -m experiments.run NAME` trains the variants and records them."""
