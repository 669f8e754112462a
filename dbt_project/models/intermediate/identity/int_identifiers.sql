with

sightings as (
    select * from {{ ref("int_sightings") }}
),

records as (
    select
        records.identifier_id,
        records.source,
        records.identifier_type,
        records.identifier,
        coalesce(assignments.customer_id, records.own_customer_id) as customer_id,
        records.first_known_at
    from {{ ref("int_person_records") }} as records
    left join {{ ref("stg_identity__assignments") }} as assignments
        on records.identifier_id = assignments.identifier_id
),

-- A contact point follows its owner, unless it is a guest and so a record itself.
contact_points as (
    select
        contact_point_id,
        contact_point_type,
        contact_point,
        max(case when is_owner then record_id end) as record_id,
        max(case when is_owner then first_known_at end) as first_known_at
    from {{ ref("int_record_contact_points") }}
    group by
        contact_point_id,
        contact_point_type,
        contact_point
    having not {{ dbt.bool_or("is_guest") }}
),

unblocked as (
    select contact_points.*
    from contact_points
    left join {{ ref("int_blocked_contact_points") }} as blocked
        on contact_points.contact_point_id = blocked.contact_point_id
    where blocked.contact_point_id is null
),

-- A device belongs to whoever named themselves on it first, backwards in time as well.
devices as (
    select
        sightings.anonymous_id,
        sightings.record_id,
        min(sightings.first_known_at) over (partition by sightings.anonymous_id) as first_known_at
    from sightings
    inner join records on sightings.record_id = records.identifier_id
    where sightings.anonymous_id is not null
    qualify row_number() over (
        partition by sightings.anonymous_id
        order by
            sightings.first_known_at,
            case when sightings.record_source = 'shop' then 0 else 1 end,
            sightings.record_id
    ) = 1
),

identifiers as (
    select
        identifier_id,
        source,
        identifier_type,
        identifier,
        identifier_id as record_id,
        first_known_at
    from records

    union all

    select
        contact_point_id as identifier_id,
        'any' as source,
        contact_point_type as identifier_type,
        contact_point as identifier,
        record_id,
        first_known_at
    from unblocked

    union all

    select
        {{ identifier_id("web", "anonymous_id", "anonymous_id") }} as identifier_id,
        'web' as source,
        'anonymous_id' as identifier_type,
        anonymous_id as identifier,
        record_id,
        first_known_at
    from devices
),

customers as (
    select
        identifiers.identifier_id,
        identifiers.source,
        identifiers.identifier_type,
        identifiers.identifier,
        identifiers.record_id,
        records.customer_id,
        identifiers.first_known_at
    from identifiers
    inner join records on identifiers.record_id = records.identifier_id
)

select * from customers
