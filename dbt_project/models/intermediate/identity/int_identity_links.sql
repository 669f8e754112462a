with

records as (
    select * from {{ ref("int_person_records") }}
),

-- A contact names a number of the shop.
numbered as (
    select
        identifier_id as left_id,
        {{ identifier_id("shop", "customer_ref", "customer_ref") }} as right_id,
        'customer_ref' as rule
    from records
    where source = 'crm' and customer_ref is not null
),

-- A guest is whoever is known to have the address or number.
addressed as (
    select
        guests.identifier_id as left_id,
        owners.record_id as right_id,
        'contact_point' as rule
    from records as guests
    inner join {{ ref("int_record_contact_points") }} as owners
        on guests.identifier_id = owners.contact_point_id and owners.is_owner
    where guests.source = 'any'
),

decided as (
    select
        left_id,
        right_id,
        'steward' as rule
    from {{ ref("int_identity_decisions") }}
    where decision = 'link' and is_known
),

links as (
    select * from numbered
    union all
    select * from addressed
    union all
    select * from decided
)

select * from links
