"""From a row of a data set to pixels: sources, splits, labels, transforms, the pixel cache."""
