"""Observers that carry events elsewhere."""
