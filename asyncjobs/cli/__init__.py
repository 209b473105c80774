"""The `asyncjobs` command: arguments to options, values to text, outcomes to exit codes.

It stands on the public package alone, as any program of a user would, and keeps standard output
for data and standard error for everything else. Its Python names are no public interface; the
command line is.
"""
