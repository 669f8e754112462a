{#- A table: four models read it, and each would find repeated events and take contact points apart again. -#}
{{ config(materialized="table") }}

with

source as (
    {{ accepted_rows("crm", "consents", beyond_clock=true) }}
),

renamed as (
    select
        source.consent_id,
        nullif(trim(source.contact_id), '') as contact_id,
        source.delivery_id,
        source.row_number,

        -- As given: a national number needs the contact's country before it can be told.
        nullif(trim(source.contact_point), '') as contact_point,
        {{ parsed_email("emails", "source.contact_point") }} as email,
        {{ parsed_phone("phones", "source.contact_point") }} as phone,
        lower(trim(source.channel)) as channel,
        lower(trim(source.purpose)) as purpose,
        lower(trim(source.state)) as state,
        lower(trim(source.suppression)) as suppression,
        lower(trim(source.lawful_basis)) as lawful_basis,
        {{ text("source.notice_version") }} as notice_version,
        {{ text("source.source") }} as captured_by,
        {{ text("source.evidence") }} as evidence,

        source.captured_at,
        source.expires_at,
        source.known_at
    from source
    left join {{ source("lake", "emails") }} as emails on trim(source.contact_point) = emails.given
    left join {{ source("lake", "phones") }} as phones
        on trim(source.contact_point) = phones.given and phones.country_code = ''
)

select * from renamed
