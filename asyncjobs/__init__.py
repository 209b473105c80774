"""asyncjobs: an asyncio client for the GitLab Jobs API."""
