with

source as (
    {{ accepted_deliveries("email", "sends") }}
),

renamed as (
    select
        source.send_id,
        source.campaign_id,
        source.delivery_id,
        source.row_number,

        {{ parsed_email("emails", "source.email") }} as email,
        {{ email_problem("emails", "source.email") }} as email_problem,

        source.sequence,

        source.sent_at,
        source.known_at
    from source
    left join {{ source("lake", "emails") }} as emails on trim(source.email) = emails.given
)

select * from renamed
