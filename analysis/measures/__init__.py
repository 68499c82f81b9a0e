"""Numbers about features, heat maps and perturbed videos that the commands print and draw."""
