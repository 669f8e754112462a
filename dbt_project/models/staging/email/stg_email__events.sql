with

source as (
    {{ accepted_rows("email", "events", beyond_clock=true) }}
),

renamed as (
    select
        event_id,
        campaign_id,
        send_id,

        lower(trim(event_type)) as event_type,
        {{ email_address("email") }} as email,
        url,
        lower(trim(bounce_type)) as bounce_type,
        user_agent,

        {{ is_mail_machine("user_agent") }} as is_mail_machine,

        occurred_at,
        known_at
    from source
)

select * from renamed
