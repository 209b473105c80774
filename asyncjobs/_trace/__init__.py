"""What asyncjobs knows about a job's log: lines, places, servers' ways of giving it, and its end.

Pure decisions without I/O, clock or await; `_tail` carries them out.
GitLab: https://docs.gitlab.com/api/jobs/#retrieve-a-job-log-file
"""
