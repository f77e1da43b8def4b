"""What the templates are built from: one file each, and the script that builds them."""
