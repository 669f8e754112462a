with

clock as (
    select *
    from {{ ref("stg_lake__clock") }}
    where as_of is not null
),

steps_back as (
    {{ dbt.generate_series(var("spine_anchors")) }}
),

-- The phase is fixed: Mondays a whole number of steps after Monday 1970-01-05, whatever the current as_of.
newest_past_day as (
    select
        cast(floor(
            ({{ dbt.datediff("cast('1970-01-05' as date)", "as_of_on", "day") }} - 1) / {{ var("spine_step_days") }}
        ) as integer) as step
    from clock
),

past_days as (
    select
        cast(
            {{ dbt.dateadd(
                "day",
                "(newest_past_day.step - steps_back.generated_number + 1) * " ~ var("spine_step_days"),
                "cast('1970-01-05' as date)"
            ) }} as date
        ) as as_of_on
    from newest_past_day
    cross join steps_back
),

-- From a midnight one looks back on midnights, else on the time of day at which the schedule refreshes.
clock_times as (
    select as_of = {{ local_midnight("as_of_on") }} as is_midnight
    from clock
),

anchors as (
    select
        case
            when clock_times.is_midnight then {{ local_midnight("past_days.as_of_on") }}
            else {{ local_time_on("past_days.as_of_on", var("spine_time_of_day")) }}
        end as as_of,
        past_days.as_of_on,
        false as is_current
    from past_days
    cross join clock_times

    union all

    select
        as_of,
        as_of_on,
        true as is_current
    from clock
)

select * from anchors
