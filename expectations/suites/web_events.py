"""web.events as delivered: what the contract can't say of behaviour on site and in app."""

from __future__ import annotations

from expectations.rules import between, never, none_where

RULES = (
    none_where(
        "track_has_a_name",
        "lower(trim(event_type)) = 'track' and nullif(trim(event_name), '') is null",
        "A track event has a name",
        reason="A nameless event counts as a visit and nothing else.",
    ),
    none_where(
        "visitor_is_told",
        "coalesce(nullif(trim(anonymous_id), ''), nullif(trim(user_id), ''), nullif(trim(email), '')) is null",
        "An event has a device, a user or an address",
        reason="An event of nobody is in no session; some servers send such on purpose.",
    ),
    none_where(
        "order_completed_names_its_order",
        "trim(event_name) = 'Order Completed' and nullif(trim(order_id), '') is null",
        "Order Completed names its order",
        reason="Orders come from the shop; the event only ties the visit to one.",
    ),
    between("quantity", 0, 100_000, reason="Carts are descriptions, no book-keeping."),
    between("price", 0, 1_000_000, reason="Prices that were seen decide nothing; those that were paid do."),
    none_where(
        "properties_are_json",
        "not json_valid(properties)",
        "properties is a JSON object",
        reason="Another text is not read.",
    ),
    never(
        "most_visitors_are_nobody",
        "count(*) >= 1000 and count(distinct user_id) > 0.9 * count(distinct anonymous_id)"
        " and count(distinct anonymous_id) > 100",
        "Nine of ten devices have a user of their own: anonymous_id is probably made anew per event or user",
        reason="A shop behind a log-in looks like this too.",
    ),
)
