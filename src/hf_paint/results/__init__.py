"""Records, the alpha curve and how alpha is chosen, robustness, run folders, comparison."""
