"""The web page: what `predict`, `generate` and `synthesize` do, in a browser and as an interface for programs."""
