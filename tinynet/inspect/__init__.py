"""Looking at a net: its summary, its features, and whether its gradients are right."""
