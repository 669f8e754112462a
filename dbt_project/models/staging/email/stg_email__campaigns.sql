with

source as (
    {{ accepted_rows("email", "campaigns") }}
),

renamed as (
    select
        campaign_id,

        {{ text("name") }} as name,
        {{ text("subject") }} as subject,
        coalesce(lower(trim(kind)), 'promotional') as kind,
        {{ text("category") }} as category,

        sent_at,
        known_at
    from source
)

select * from renamed
