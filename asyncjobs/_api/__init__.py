"""The endpoints: protocol, transport and retries put together, one HTTP exchange per method.

Features stand on `Api` and never on the rooms below it.
"""

from asyncjobs._api.attempts import Attempts
from asyncjobs._api.body import Body
from asyncjobs._api.budget import Budget, shared_budget
from asyncjobs._api.endpoints import Endpoints
from asyncjobs._api.exchange import Exchange
from asyncjobs._api.targets import Api

__all__ = ["Api", "Attempts", "Body", "Budget", "Endpoints", "Exchange", "shared_budget"]
