"""The demonstration: one batch of generations, three ways to run it, one provider that counts."""
