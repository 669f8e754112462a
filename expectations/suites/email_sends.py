"""email.sends as delivered: what the contract can't say of messages handed to the platform."""

from __future__ import annotations

from expectations.rules import never, none_where

RULES = (
    none_where(
        "campaign_is_known",
        "campaign_id not in (select campaign_id from lake_email.campaigns where campaign_id is not null)",
        "The message's campaign was delivered",
        reason="It counts for its address; only reports by campaign lack it until the campaign is delivered.",
    ),
    never(
        "messages_go_to_many",
        "count(*) >= 1000 and count(distinct email) < 0.001 * count(*)",
        "A thousand messages and more to one address: email is probably the sender's",
        reason="A test of the platform looks like this too.",
    ),
)
