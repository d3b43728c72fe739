"""From theta_0 and theta_1 to theta_alpha: one paper, one file."""
