with

current_as_of as (

    select
        as_of,
        as_of_on
    from {{ ref('dim_as_ofs') }}
    where is_current

),

customers as (

    select customer_id from {{ ref('dim_customers') }}

),

changes as (

    select * from {{ ref('stg_releases__membership_changes') }}

),

released as (

    select * from {{ ref('stg_releases__memberships') }}

),

set_aside as (

    select segment from {{ ref('stg_lake__segments_set_aside') }}

),

{% set in_force = segments_in_force() -%}
rules as (

    {% for segment in in_force %}
    select
        '{{ segment.removeprefix("seg_") }}' as segment,
        {{ segment_meta(segment, "min_dwell_days", 0) }} as min_dwell_days,
        {{ segment_meta(segment, "reentry_after_days", 0) }} as reentry_after_days
    union all
    {% endfor %}
    select
        cast(null as {{ dbt.type_string() }}) as segment,
        0 as min_dwell_days,
        0 as reentry_after_days
    where false

),

tables as (

    {% for segment in in_force %}
    select
        cast(customer_id as {{ dbt.type_string() }}) as customer_id,
        '{{ segment.removeprefix("seg_") }}' as segment
    from {{ ref(segment) }}
    union all
    {% endfor %}
    select
        cast(null as {{ dbt.type_string() }}) as customer_id,
        cast(null as {{ dbt.type_string() }}) as segment
    where false

),

-- A segment is a set.
qualifying as (

    select distinct
        customer_id,
        segment
    from tables

),

-- Releases of this very as_of don't count: the outcome is the same however often it is made.
earlier as (

    select
        changes.customer_id,
        changes.segment,
        changes.change,
        coalesce(changes.cause, '') = 'rollback' as is_rollback,
        {{ to_local_date("changes.as_of") }} as changed_on,
        row_number() over (
            partition by changes.customer_id, changes.segment
            order by changes.release desc
        ) as newness
    from changes
    inner join current_as_of
        on changes.as_of < current_as_of.as_of

),

last_changes as (

    select
        earlier.customer_id,
        earlier.segment,
        earlier.change,
        earlier.is_rollback,
        {{ dbt.datediff("earlier.changed_on", "current_as_of.as_of_on", "day") }} as age_days
    from earlier
    cross join current_as_of
    where earlier.newness = 1

),

-- Who entered stays for the dwell time although they no longer qualify; who left stays out until they may enter again
-- although they do. What a rollback did begins neither.
decided as (

    select
        rules.segment,
        coalesce(qualifying.customer_id, last_changes.customer_id) as customer_id
    from qualifying
    full outer join last_changes
        on
            qualifying.customer_id = last_changes.customer_id
            and qualifying.segment = last_changes.segment
    inner join rules
        on coalesce(qualifying.segment, last_changes.segment) = rules.segment
    where
        case
            when last_changes.is_rollback or last_changes.change is null then qualifying.customer_id is not null
            when last_changes.change = 'entered'
                then qualifying.customer_id is not null or last_changes.age_days < rules.min_dwell_days
            else qualifying.customer_id is not null and last_changes.age_days >= rules.reentry_after_days
        end

),

kept as (

    select
        released.segment,
        released.customer_id
    from released
    inner join set_aside
        on released.segment = set_aside.segment
    left join rules
        on released.segment = rules.segment
    where rules.segment is null

),

everyone as (

    select * from decided
    union all
    select * from kept

),

final as (

    select
        everyone.customer_id,
        everyone.segment
    from everyone
    inner join customers
        on everyone.customer_id = customers.customer_id

)

select * from final
