"""What performs the steps of a flow."""
