"""Tails: one trace as bytes, many as lines, logs saved to files. Stands on `_api`; decides nothing itself.

What a log is, when to ask and when it has ended is in `_trace`; here requests, tasks and queues are kept.
GitLab: https://docs.gitlab.com/api/jobs/#retrieve-a-job-log-file
"""

from asyncjobs._tail.many import TailStream, tail
from asyncjobs._tail.parts import get_trace, read_trace
from asyncjobs._tail.save import save_traces
from asyncjobs._tail.stream import TraceStream, follow_trace

__all__ = ["TailStream", "TraceStream", "follow_trace", "get_trace", "read_trace", "save_traces", "tail"]
