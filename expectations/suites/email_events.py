"""email.events as delivered: what the contract can't say of things that happened to messages."""

from __future__ import annotations

from expectations.rules import never, none_where

RULES = (
    none_where(
        "message_is_known",
        "(select count(*) from lake_email.sends) > 0 and nullif(trim(send_id), '') is not null"
        " and send_id not in (select send_id from lake_email.sends where send_id is not null)",
        "The message that something happened to was delivered, where messages are",
        reason="Refusals bind by address whether or not the message is known.",
    ),
    none_where(
        "bounce_says_its_type",
        "lower(trim(event_type)) = 'bounced' and nullif(trim(bounce_type), '') is null",
        "A bounce is hard or soft",
        reason="A bounce without a type counts as soft: the platform itself stops hard ones.",
    ),
    none_where(
        "click_says_its_link",
        "lower(trim(event_type)) = 'clicked' and nullif(trim(url), '') is null",
        "A click names its link",
        reason="It counts as a click; only scanners are told by clicking every link.",
    ),
    never(
        "bounces_are_the_exception",
        "count(*) filter (where lower(trim(event_type)) = 'bounced')"
        " > 0.2 * greatest(count(*) filter (where lower(trim(event_type)) in ('delivered', 'bounced')), 50)",
        "One message in five bounced, or more",
        reason="The figures are right; the list of addresses is not, and the platform will soon say so.",
    ),
    never(
        "complaints_are_rare",
        "count(*) filter (where lower(trim(event_type)) = 'complained')"
        " > 0.01 * greatest(count(*) filter (where lower(trim(event_type)) = 'delivered'), 500)",
        "One message in a hundred was complained about, or more",
        reason="The figures are right; mailbox providers block senders at a third of that.",
    ),
)
