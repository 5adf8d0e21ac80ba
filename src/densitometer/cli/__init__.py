"""The command line: parse, call, print.

A command is a module of two functions: `add_to` adds its parser to the others, `run` does what was
asked for and returns the exit status. It imports what it needs when it runs, so that help is
instant. Whatever a person can do wrong ends in one sentence on standard error and exit status 2.
"""

from densitometer.cli.entry import main as main
