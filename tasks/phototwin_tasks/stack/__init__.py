"""Stack: put objects on top of one another."""
