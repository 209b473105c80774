"""What GitLab's API means, without a socket: addresses, requests, pages, answers, redirects, bodies.

Pure functions and values. Sending, waiting and retrying are done elsewhere.
"""
