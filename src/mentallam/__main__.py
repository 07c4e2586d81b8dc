"""`python -m mentallam` is the same as the `mentallam` command."""

from mentallam.serving.command_line import main

main()
