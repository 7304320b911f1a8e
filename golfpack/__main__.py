"""`python -m golfpack`: the command line."""

from generator.cli import main

main()
