"""One module per group of commands, thin faces on the functions of the rooms."""
