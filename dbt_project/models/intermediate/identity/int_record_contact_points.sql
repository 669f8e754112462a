with

sightings as (
    select * from {{ ref("int_sightings") }}
),

seen as (
    select
        record_id,
        record_source,
        {{ identifier_id("any", "email", "email") }} as contact_point_id,
        'email' as contact_point_type,
        email as contact_point,
        source,
        first_known_at,
        last_seen_at
    from sightings
    where email is not null

    union all

    select
        record_id,
        record_source,
        {{ identifier_id("any", "phone", "phone") }} as contact_point_id,
        'phone' as contact_point_type,
        phone as contact_point,
        source,
        first_known_at,
        last_seen_at
    from sightings
    where phone is not null
),

carried as (
    select
        record_id,
        contact_point_id,

        record_source,
        contact_point_type,
        contact_point,

        -- A guest: it was seen with nothing that a shop or CRM would know someone by.
        record_id = contact_point_id as is_guest,

        min(first_known_at) as first_known_at,
        {{ latest_value("source", "last_seen_at", "source") }} as last_seen_in,
        max(last_seen_at) as last_seen_at
    from seen
    group by
        record_id,
        contact_point_id,
        record_source,
        contact_point_type,
        contact_point
),

-- A contact point has one owner, whom what happens there is counted for: the record first seen with it. Its other
-- users keep it as theirs and stay who they are.
owned as (
    select
        record_id,
        contact_point_id,

        record_source,
        contact_point_type,
        contact_point,

        is_guest,
        not is_guest and row_number() over (
            partition by contact_point_id
            order by
                is_guest,
                case when record_source = 'any' then 1 else 0 end,
                first_known_at,
                case when record_source = 'shop' then 0 else 1 end,
                record_id
        ) = 1 as is_owner,

        last_seen_in,

        first_known_at,
        last_seen_at
    from carried
)

select * from owned
