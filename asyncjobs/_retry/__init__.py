"""When the next request may go: retries, their budget, gates and windows.

Pure: times and chance are passed in, nothing waits here.
"""
