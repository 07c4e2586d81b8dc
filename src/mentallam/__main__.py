"""`python -m mentallam`, the same as the command `mentallam`."""

from mentallam.serving.command_line import main

main()
