with

identifiers as (
    select
        identifier_id,
        customer_id,
        first_known_at
    from {{ ref("int_identifiers") }}
),

contact_points as (
    select
        record_id,
        contact_point_type,
        first_known_at
    from {{ ref("int_record_contact_points") }}
),

known as (
    select
        customer_id,
        first_known_at,
        cast(null as timestamp) as email_known_at,
        cast(null as timestamp) as phone_known_at
    from identifiers

    union all

    select
        identifiers.customer_id,
        contact_points.first_known_at,
        case when contact_points.contact_point_type = 'email' then contact_points.first_known_at end as email_known_at,
        case when contact_points.contact_point_type = 'phone' then contact_points.first_known_at end as phone_known_at
    from contact_points
    inner join identifiers on contact_points.record_id = identifiers.identifier_id
),

firsts as (
    select
        customer_id,
        min(first_known_at) as known_at,
        min(email_known_at) as email_known_at,
        min(phone_known_at) as phone_known_at
    from known
    group by customer_id
)

select * from firsts
