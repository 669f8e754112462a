with

carried as (
    select * from {{ ref("int_record_contact_points") }}
),

contacts as (
    select
        contact_id,
        customer_ref,
        {{ name_key("surname") }} as surname_key
    from {{ ref("stg_crm__contacts") }}
    where is_current and surname is not null
),

surnames as (
    select
        {{ identifier_id("crm", "contact_id", "contact_id") }} as record_id,
        surname_key
    from contacts

    union all

    select
        {{ identifier_id("shop", "customer_ref", "customer_ref") }} as record_id,
        surname_key
    from contacts
    where customer_ref is not null
),

contact_points as (
    select distinct
        contact_point_id,
        contact_point_type,
        contact_point
    from carried
),

listed as (
    select
        contact_points.contact_point_id,
        min(blocked_values.reason) as reason
    from contact_points
    inner join {{ ref("identity_blocked_values") }} as blocked_values
        on
            contact_points.contact_point_type = blocked_values.identifier_type
            and contact_points.contact_point like blocked_values.pattern
    group by contact_points.contact_point_id
),

-- Many records of one name are one busy customer, whom the cap on identifiers deals with; many of many names share it.
shared as (
    select carried.contact_point_id
    from carried
    left join surnames on carried.record_id = surnames.record_id
    group by carried.contact_point_id
    having
        count(distinct carried.record_id) > {{ var("identity_max_records_per_contact_point") }}
        and count(distinct surnames.surname_key) > {{ var("identity_max_surnames_per_contact_point") }}
),

blocked as (
    select
        contact_points.contact_point_id,

        contact_points.contact_point_type,
        contact_points.contact_point,
        coalesce(listed.reason, 'shared by too many') as reason
    from contact_points
    left join listed on contact_points.contact_point_id = listed.contact_point_id
    left join shared on contact_points.contact_point_id = shared.contact_point_id
    where listed.contact_point_id is not null or shared.contact_point_id is not null
)

select * from blocked
