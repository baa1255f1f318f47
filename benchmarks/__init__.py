"""What the guard costs, beside something measured in the same run."""
