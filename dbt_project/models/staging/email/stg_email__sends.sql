with

source as (
    {{ accepted_rows("email", "sends") }}
),

renamed as (
    select
        send_id,
        campaign_id,

        {{ email_address("email") }} as email,

        sent_at,
        known_at
    from source
)

select * from renamed
