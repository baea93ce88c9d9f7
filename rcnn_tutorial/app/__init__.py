"""What the command `rcnn-tutorial` does, as functions: each subcommand is one file, and the function in it one call."""
