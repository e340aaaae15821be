"""The benchmark: what the gateway adds to a provider's answer, measured direct and through it. See README.md."""
