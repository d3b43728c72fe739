"""Plots of a run and of a comparison of runs, in one style: one module per figure."""
