"""crm.consents as delivered: what the contract can't say of consent and suppression events."""

from __future__ import annotations

from expectations.rules import none_where, one_of

RULES = (
    none_where(
        "someone_is_meant",
        "coalesce(nullif(trim(contact_id), ''), nullif(trim(contact_point), '')) is null",
        "A consent event names a contact or a contact point: a refusal of nobody protects nobody",
    ),
    none_where(
        "contact_is_known",
        "nullif(trim(contact_id), '') is not null and nullif(trim(contact_point), '') is null"
        " and contact_id not in (select contact_id from lake_crm.contacts where contact_id is not null)",
        "The contact that an event is about was delivered, where the event names no contact point itself",
        reason="Such an event makes nobody sendable, and binds as soon as its contact is delivered.",
    ),
    one_of(
        "lower(trim(lawful_basis))",
        ("consent", "legitimate_interest", "contract", "soft_opt_in"),
        name="lawful_basis_known",
        reason="Another word is read as implied: it never stands for a consent that the person gave.",
    ),
    none_where(
        "suppression_is_a_refusal",
        "nullif(trim(suppression), '') is not null and lower(trim(state)) in ('granted', 'confirmed')",
        "A row is a grant or a suppression, never both",
        reason="Where the two contradict, the suppression binds.",
    ),
    none_where(
        "expires_after_it_was_given",
        "expires_at < captured_at",
        "A consent expires after it was given",
        reason="One that never was valid makes nobody sendable.",
    ),
)
