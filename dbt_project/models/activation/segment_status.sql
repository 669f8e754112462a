with

current_as_of as (

    select as_of from {{ ref('dim_as_ofs') }}
    where is_current

),

memberships as (

    select * from {{ ref('segment_memberships') }}

),

set_aside as (

    select * from {{ ref('stg_lake__segments_set_aside') }}

),

fresh as (

    {% for segment in segments_in_force() %}
    select
        '{{ segment.removeprefix("seg_") }}' as segment,
        '{{ segment_meta(segment, "cadence", "daily") }}' as cadence
    union all
    {% endfor %}
    select
        cast(null as {{ dbt.type_string() }}) as segment,
        cast(null as {{ dbt.type_string() }}) as cadence
    where false

),

counted as (

    select
        segment,
        count(*) as members
    from memberships
    group by segment

),

stated as (

    select
        fresh.segment,
        fresh.cadence,
        true as is_fresh,
        current_as_of.as_of
    from fresh
    cross join current_as_of
    union all
    select
        set_aside.segment,
        set_aside.cadence,
        false as is_fresh,
        set_aside.fresh_at as as_of
    from set_aside
    left join fresh
        on set_aside.segment = fresh.segment
    where fresh.segment is null

),

final as (

    select
        stated.segment,
        stated.cadence,
        coalesce(counted.members, 0) as members,
        stated.is_fresh,
        stated.as_of
    from stated
    left join counted
        on stated.segment = counted.segment

)

select * from final
