with

source as (
    {{ accepted_deliveries("web", "events") }}
),

renamed as (
    select
        source.event_id,
        nullif(trim(source.anonymous_id), '') as anonymous_id,
        nullif(trim(source.user_id), '') as user_id,
        nullif(trim(source.session_id), '') as session_id,
        {{ product_key("source.product_id") }} as product_id,
        source.cart_id,
        source.order_id,
        source.delivery_id,
        source.row_number,

        lower(trim(source.event_type)) as event_type,
        trim(source.event_name) as event_name,
        {{ parsed_email("emails", "source.email") }} as email,
        {{ email_problem("emails", "source.email") }} as email_problem,
        source.page_url,
        source.referrer,
        source.user_agent,
        source.campaign_source,
        source.campaign_medium,
        source.campaign_name,
        upper(trim(source.currency)) as currency,
        source.query,
        source.tracking_consent,
        source.properties,

        source.sequence,
        source.quantity,
        source.price,

        source.occurred_at,
        source.known_at
    from source
    left join {{ source("lake", "emails") }} as emails on trim(source.email) = emails.given
)

select * from renamed
