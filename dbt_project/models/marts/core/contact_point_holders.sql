with

identifiers as (
    select * from {{ ref("customer_identifiers") }}
),

customers as (
    select * from {{ ref("dim_customers") }}
),

records as (
    select * from {{ ref("contact_point_records") }}
),

-- As far as anything says whose a contact point is: its owner, whose profile shows it, whose record ever did.
evidence as (
    select
        identifier_type as contact_point_type,
        identifier as contact_point,
        customer_id,
        1 as closeness,
        true as is_known
    from identifiers
    where identifier_type in ('email', 'phone')

    union all

    select
        'email' as contact_point_type,
        email as contact_point,
        customer_id,
        2 as closeness,
        true as is_known
    from customers
    where email is not null

    union all

    select
        'phone' as contact_point_type,
        phone as contact_point,
        customer_id,
        2 as closeness,
        true as is_known
    from customers
    where phone is not null

    union all

    select
        records.contact_point_type,
        records.contact_point,
        identifiers.customer_id,
        3 as closeness,
        records.is_known
    from records
    inner join identifiers on records.record_identifier_id = identifiers.identifier_id
),

holders as (
    select
        evidence.contact_point_type,
        evidence.contact_point,
        case evidence.contact_point_type
            when 'email' then {{ identifier_id("any", "email", "evidence.contact_point") }}
            else {{ identifier_id("any", "phone", "evidence.contact_point") }}
        end as identifier_id,
        customers.customer_id,

        {{ dbt.bool_or("evidence.is_known") }} as is_known,

        min(case when evidence.is_known then evidence.closeness end) as closeness,
        min(customers.first_known_at) as first_known_at
    from evidence
    inner join customers on evidence.customer_id = customers.customer_id
    group by
        evidence.contact_point_type,
        evidence.contact_point,
        customers.customer_id
),

ranked as (
    select
        holders.contact_point_type,
        holders.contact_point,
        holders.identifier_id,
        holders.customer_id,

        cast(
            row_number() over (
                partition by holders.contact_point_type, holders.contact_point
                order by
                    case when holders.is_known then 0 else 1 end,
                    holders.closeness,
                    holders.first_known_at,
                    holders.customer_id
            ) as integer
        ) as precedence,

        holders.is_known,
        blocked.contact_point_id is not null as is_blocked
    from holders
    left join {{ ref("int_blocked_contact_points") }} as blocked on holders.identifier_id = blocked.contact_point_id
)

select * from ranked
