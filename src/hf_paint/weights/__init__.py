"""Weights on disk: headers, compatibility, and interpolation from file to file without torch."""
