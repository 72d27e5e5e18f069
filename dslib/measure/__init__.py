"""Scores of a set of images: the row of the results table, probes, torch-fidelity."""
