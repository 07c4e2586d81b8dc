"""`python -m mentallam` is the same as the `mentallam` command."""

from mentallam.serving.cli import main

main()
