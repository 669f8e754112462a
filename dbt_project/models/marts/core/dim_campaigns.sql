with

campaigns as (
    select * from {{ ref("stg_email__campaigns") }}
),

final as (
    select
        campaign_id,

        name,
        subject,
        kind,
        category,

        sent_at,
        known_at
    from campaigns
)

select * from final
