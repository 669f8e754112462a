with

source as (
    {{ accepted_rows("crm", "consents", beyond_clock=true) }}
),

renamed as (
    select
        consent_id,
        nullif(trim(contact_id), '') as contact_id,
        delivery_id,
        row_number,

        -- As given: a phone needs the contact's country before it can be normalised.
        {{ text("contact_point") }} as contact_point,
        lower(trim(channel)) as channel,
        lower(trim(purpose)) as purpose,
        lower(trim(state)) as state,
        lower(trim(suppression)) as suppression,
        lower(trim(lawful_basis)) as lawful_basis,
        {{ text("notice_version") }} as notice_version,
        {{ text("source") }} as captured_by,
        {{ text("evidence") }} as evidence,

        captured_at,
        expires_at,
        known_at
    from source
)

select * from renamed
