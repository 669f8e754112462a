with recursive

spans as (
    select
        identifier_id,
        customer_id,
        from_run,
        coalesce(to_run, 9223372036854775807) as to_run,
        valid_from,
        valid_to
    from {{ ref("stg_identity__assignment_spans") }}
),

-- Only customers that a record ever left have anything to tell.
left_customers as (
    select distinct customer_id
    from spans
    where valid_to is not null
),

-- Runs tell what overlaps: two runs may share an as_of.
together as (
    select
        one.identifier_id,
        other.identifier_id as companion_id,
        greatest(one.from_run, other.from_run) as since_run,
        least(one.to_run, other.to_run) as until_run,
        -- Null as long as they are one customer.
        case when one.to_run <= other.to_run then one.valid_to else other.valid_to end as ended_at
    from spans as one
    inner join left_customers on one.customer_id = left_customers.customer_id
    inner join spans as other
        on
            one.customer_id = other.customer_id
            and one.identifier_id <> other.identifier_id
            and one.from_run < other.to_run
            and other.from_run < one.to_run
),

-- A refusal goes on with whom it reached: along companions of companions, as long as each began before the next one
-- ended. It must have been known before the first of these ends.
reached as (
    select
        identifier_id,
        companion_id,
        since_run as reached_in_run,
        until_run,
        ended_at
    from together

    union

    select
        reached.identifier_id,
        together.companion_id,
        greatest(reached.reached_in_run, together.since_run) as reached_in_run,
        least(reached.until_run, together.until_run) as until_run,
        case when reached.until_run <= together.until_run then reached.ended_at else together.ended_at end as ended_at
    from reached
    inner join together on reached.companion_id = together.identifier_id
    where
        together.until_run > reached.reached_in_run
        and together.companion_id <> reached.identifier_id
),

-- Who is still together needs no reminder.
former as (
    select
        identifier_id,
        companion_id,
        max(ended_at) as ended_at
    from reached
    where ended_at is not null
    group by
        identifier_id,
        companion_id
)

select * from former
