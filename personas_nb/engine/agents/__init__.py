"""What can run a prompt, behind one Protocol, one file an engine."""
