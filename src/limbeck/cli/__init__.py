"""The command line: every command calls one public function and prints its result.

`limbeck --help` lists the commands; each command's help starts with an example. A user's mistake is one message on
standard error and exit code 2; `--json` prints JSON and nothing else on standard output.
"""

from limbeck.cli.app import main

__all__ = ["main"]
