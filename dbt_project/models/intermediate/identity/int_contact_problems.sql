with

contacts as (
    select
        contacts.*,
        addresses.postal_code_verdict,
        addresses.is_city_in_doubt,
        addresses.is_region_in_doubt
    from {{ ref("stg_crm__contacts") }} as contacts
    left join {{ ref("int_contact_addresses") }} as addresses
        on
            contacts.contact_id = addresses.contact_id
            and contacts.delivery_id = addresses.delivery_id
),

problems as (
    {%- set checks = [
        ("email", "email_problem"),
        ("phone", "phone_problem"),
        ("birthday", "birthday_problem"),
        ("country", "case when is_country_unknown then 'unknown' end"),
        ("postal_code", "case when postal_code_verdict in ('malformed', 'unknown') then postal_code_verdict end"),
        ("city", "case when is_city_in_doubt then 'not_at_postal_code' end"),
        ("region", "case when is_region_in_doubt then 'not_at_postal_code' end"),
    ] %}
    {%- for field, problem in checks %}
    select
        'crm' as source,
        'contacts' as table_name,
        delivery_id,
        row_number,
        '{{ field }}' as field,
        {{ problem }} as problem
    from contacts

    union all
    {% endfor %}
    select
        'crm' as source,
        'consents' as table_name,
        delivery_id,
        row_number,
        'contact_point' as field,
        'not_an_address' as problem
    from {{ ref("stg_crm__consents") }}
    where channel = 'email' and contact_point is not null and email is null

    union all

    select
        'third_party' as source,
        'demographics' as table_name,
        delivery_id,
        row_number,
        'contact_point' as field,
        contact_point_problem as problem
    from {{ ref("stg_third_party__demographics") }}

    union all

    select
        source,
        table_name,
        delivery_id,
        row_number,
        field,
        problem
    from {{ ref("int_delivered_problems") }}
),

-- What is only unusual is used all the same: numbers that no plan has assigned, codes that the list does not know,
-- towns that it calls otherwise.
marked as (
    select
        delivery_id,
        row_number,

        source,
        table_name,
        field,
        problem,

        problem in ('not_assigned', 'not_at_postal_code') or (field = 'postal_code' and problem = 'unknown') as is_used
    from problems
    where problem is not null
)

select * from marked
