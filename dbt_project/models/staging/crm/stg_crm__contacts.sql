with

source as (
    {{ accepted_versions("crm", "contacts", "coalesce(accepted.updated_at, accepted.created_at)") }}
),

renamed as (
    select
        source.contact_id,
        nullif(trim(source.customer_ref), '') as customer_ref,
        source.delivery_id,
        source.sequence,

        {{ email_address("source.email") }} as email,
        {{ phone_e164("source.phone", "countries.calling_code", "countries.trunk_prefix") }} as phone,
        {{ person_name("coalesce(source.given_name, " ~ split_name("source.full_name", "given") ~ ")") }} as given_name,
        {{ person_name("coalesce(source.surname, " ~ split_name("source.full_name", "family") ~ ")") }} as surname,
        {{ gender("source.gender") }} as gender,
        {{ text("source.street") }} as street,
        {{ person_name("source.city") }} as city,
        {{ text("source.region") }} as region,
        upper({{ text("source.postal_code") }}) as postal_code,
        country_names.country_code,
        {{ text("source.language") }} as language,
        lower(trim(source.account_type)) as account_type,
        lower({{ text("source.loyalty_tier") }}) as loyalty_tier,
        source.preferences,

        source.accepts_marketing,
        source.is_current,
        source.is_latest,

        source.birthday,

        source.created_at,
        coalesce(source.updated_at, source.created_at) as updated_at,
        source.known_at
    from source
    left join {{ ref("country_names") }} as country_names
        on {{ country_key("source.country") }} = country_names.name_key
    left join {{ ref("countries") }} as countries on country_names.country_code = countries.country_code
)

select * from renamed
