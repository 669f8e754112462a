with

sessions as (
    select
        versions.session_key,
        versions.identifier_id,
        versions.customer_id,

        versions.campaign_source,
        versions.campaign_name,

        versions.event_count,
        versions.product_view_count,
        versions.cart_add_count,
        versions.search_count,
        versions.checkout_count,

        versions.has_order,
        versions.is_bot,

        versions.started_on,

        versions.started_at,
        versions.ended_at,
        versions.known_at
    from {{ ref("int_session_versions") }} as versions
    where {{ stands_at("versions", clock_as_of()) }}
)

select * from sessions
