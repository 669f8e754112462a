with

source as (
    {{ accepted_rows("web", "events") }}
),

renamed as (
    select
        event_id,
        nullif(trim(anonymous_id), '') as anonymous_id,
        nullif(trim(user_id), '') as user_id,
        nullif(trim(session_id), '') as session_id,
        {{ product_key("product_id") }} as product_id,
        cart_id,
        order_id,

        lower(trim(event_type)) as event_type,
        trim(event_name) as event_name,
        {{ email_address("email") }} as email,
        page_url,
        referrer,
        user_agent,
        campaign_source,
        campaign_medium,
        campaign_name,
        upper(trim(currency)) as currency,
        query,
        tracking_consent,
        properties,

        quantity,
        price,

        {{ is_bot("user_agent") }} as is_bot,

        occurred_at,
        known_at
    from source
)

select * from renamed
