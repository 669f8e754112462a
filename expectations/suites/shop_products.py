"""shop.products as delivered: what the contract can't say of the catalogue."""

from __future__ import annotations

from expectations.rules import between, given, none_where, unique

RULES = (
    unique(
        ("delivery_id", "upper(trim(product_id))"),
        name="product_once_per_delivery",
        description="A delivery tells a product once, however its stock code is spelled",
        reason="Of a repeated one the last row of the delivery counts.",
    ),
    given("name", share=0.95, reason="A product without a name sells; it only looks bad in a mail."),
    between("unit_price", 0, None, reason="Lists have no negative prices; what was paid is on the order lines."),
    none_where(
        "links_are_web_addresses",
        "not regexp_matches(coalesce(url, 'https://'), '^https?://')"
        " or not regexp_matches(coalesce(image_url, 'https://'), '^https?://')",
        "url and image_url begin with http:// or https://",
        reason="Another link is broken in a mail, and harms nothing else.",
    ),
    none_where(
        "attributes_are_json",
        "not json_valid(attributes)",
        "attributes is a JSON object",
        reason="Another text is not read; nothing but recommendations looks at attributes.",
    ),
)
