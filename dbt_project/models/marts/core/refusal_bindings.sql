with

identifiers as (
    select * from {{ ref("customer_identifiers") }}
),

holders as (
    select * from {{ ref("contact_point_holders") }}
    where not is_blocked
),

former_companions as (
    select
        former_companions.identifier_id as record_identifier_id,
        identifiers.customer_id,
        max(former_companions.ended_at) as ended_at
    from {{ ref("int_former_companions") }} as former_companions
    inner join identifiers on former_companions.companion_id = identifiers.identifier_id
    group by
        former_companions.identifier_id,
        identifiers.customer_id
),

-- The records that speak when something is said at a contact point: those that show it, and itself where it is a guest.
speaking as (
    select
        identifier_id,
        record_identifier_id
    from {{ ref("contact_point_records") }}
    where not is_blocked

    union

    select
        identifier_id,
        identifier_id as record_identifier_id
    from identifiers
    where identifier_type in ('contact_id', 'email', 'phone')
),

bindings as (
    select
        identifier_id,
        customer_id,
        cast(null as timestamp) as ended_at
    from identifiers
    where identifier_type = 'contact_id'

    union all

    select
        identifier_id,
        customer_id,
        cast(null as timestamp) as ended_at
    from holders

    union all

    select
        speaking.identifier_id,
        former_companions.customer_id,
        former_companions.ended_at
    from speaking
    inner join former_companions on speaking.record_identifier_id = former_companions.record_identifier_id
),

longest as (
    select
        identifier_id,
        customer_id,
        case when count(*) = count(ended_at) then max(ended_at) end as ended_at
    from bindings
    group by
        identifier_id,
        customer_id
)

select * from longest
