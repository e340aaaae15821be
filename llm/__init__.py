"""The catalog, routing, providers, the wire and the data path."""
