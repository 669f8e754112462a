with

source as (
    {{ accepted_deliveries("email", "events") }}
),

renamed as (
    select
        source.event_id,
        source.campaign_id,
        source.send_id,
        source.delivery_id,
        source.row_number,

        lower(trim(source.event_type)) as event_type,
        {{ parsed_email("emails", "source.email") }} as email,
        {{ email_problem("emails", "source.email") }} as email_problem,
        source.url,
        lower(trim(source.bounce_type)) as bounce_type,
        source.user_agent,

        source.sequence,

        {{ is_mail_machine("source.user_agent") }} as is_mail_machine,

        source.occurred_at,
        source.known_at
    from source
    left join {{ source("lake", "emails") }} as emails on trim(source.email) = emails.given
)

select * from renamed
