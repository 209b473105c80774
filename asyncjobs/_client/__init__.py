"""`Client`: the endpoints and the features on one object that owns its connections and threads.

How any of them works is known below; here they are put together, described and given a lifetime.
"""

from asyncjobs._client.client import Client

__all__ = ["Client"]
