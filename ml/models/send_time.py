"""Best time to send: the hour of the local week at which a customer clicks most per mail delivered."""

from __future__ import annotations

from ml.send_time import SendTimeModel

SEND_TIME = SendTimeModel()
