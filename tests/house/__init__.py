"""The house rules that can be read off the source, as tests. Each checker is itself shown a small bad example."""
