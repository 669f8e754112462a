{#- A table: eleven models read it, and each would take the names, addresses and numbers apart again. -#}
{{ config(materialized="table") }}

with

source as (
    {{ accepted_versions("crm", "contacts", "coalesce(accepted.updated_at, accepted.created_at)") }}
),

renamed as (
    select
        source.contact_id,
        nullif(trim(source.customer_ref), '') as customer_ref,
        source.delivery_id,
        source.row_number,
        source.sequence,

        {{ parsed_email("emails", "source.email") }} as email,
        nullif(trim(source.email), '') as email_given,
        {{ email_problem("emails", "source.email") }} as email_problem,
        {{ parsed_phone("phones", "source.phone", "countries.calling_code", "countries.trunk_prefix") }} as phone,
        nullif(trim(source.phone), '') as phone_given,
        {{ phone_problem(
            "phones", "source.phone", "countries.calling_code", "countries.trunk_prefix"
        ) }} as phone_problem,
        {{ person_name("coalesce(source.given_name, " ~ split_name("source.full_name", "given") ~ ")") }} as given_name,
        {{ person_name("coalesce(source.surname, " ~ split_name("source.full_name", "family") ~ ")") }} as surname,
        genders.value as gender,
        {{ category_key("source.gender") }} as gender_given,
        {{ text("source.street") }} as street,
        {{ person_name("source.city") }} as city,
        {{ text("source.region") }} as region,
        upper({{ text("source.postal_code") }}) as postal_code,
        country_names.country_code,
        {{ text("source.country") }} as country_given,
        coalesce(languages.value, {{ language_tag("source.language") }}) as language,
        {{ category_key("source.language") }} as language_given,
        {{ category("account_types", "source.account_type") }} as account_type,
        lower({{ text("source.loyalty_tier") }}) as loyalty_tier,
        source.preferences,

        source.accepts_marketing,
        source.is_current,
        source.is_latest,
        country_names.name_key is null and {{ text("source.country") }} is not null as is_country_unknown,

        {{ plausible_birthday("source.birthday", "clock.as_of") }} as birthday,
        source.birthday as birthday_given,
        {{ birthday_problem("source.birthday", "clock.as_of") }} as birthday_problem,

        source.created_at,
        coalesce(source.updated_at, source.created_at) as updated_at,
        source.known_at
    from source
    cross join {{ source("lake", "clock") }} as clock
    left join {{ ref("country_names") }} as country_names
        on {{ country_key("source.country") }} = country_names.name_key
    left join {{ ref("countries") }} as countries on country_names.country_code = countries.country_code
    left join {{ source("lake", "emails") }} as emails on trim(source.email) = emails.given
    left join {{ source("lake", "phones") }} as phones
        on
            trim(source.phone) = phones.given
            and coalesce(country_names.country_code, '') = phones.country_code
    left join {{ ref("category_values") }} as genders
        on genders.field = 'gender' and {{ category_key("source.gender") }} = genders.given
    left join {{ ref("category_values") }} as languages
        on languages.field = 'language' and {{ category_key("source.language") }} = languages.given
    left join {{ ref("category_values") }} as account_types
        on account_types.field = 'account_type' and {{ category_key("source.account_type") }} = account_types.given
)

select * from renamed
