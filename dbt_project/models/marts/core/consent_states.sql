with

-- A bounce is the address's, and nothing that a person said.
words as (
    select
        *,
        case when suppression is null then state else 'withdrawn' end as said_state
    from {{ ref("fct_consents") }}
    where contact_point is not null and coalesce(suppression, '') <> 'hard_bounce'
),

said as (
    select
        *,
        {{ is_grant("said_state") }} as is_grant,
        {{ carefulness("said_state") }} as carefulness,
        -- A refusal counts since it was said; everything else from just after it was known.
        case
            when said_state in ('withdrawn', 'expired') then captured_at
            else {{ dbt.dateadd("microsecond", 1, "known_at") }}
        end as counts_from
    from words
),

-- Of all that counts the last thing said decides, whenever it became known. A grant that is not enough for the country
-- neither allows nor undoes anything: it is the state only until something else counts.
spans as (
    select
        *,
        counts_from as valid_from_at,
        min(counts_from) over (
            partition by contact_point_type, contact_point, channel, purpose
            order by
                case when is_permission or not is_grant then 1 else 0 end,
                captured_at,
                carefulness desc,
                ends_at desc nulls first,
                consent_key desc
            rows between 1 following and unbounded following
        ) as valid_to_at
    from said
),

lasting as (
    select *
    from spans
    where valid_to_at is null or valid_from_at < valid_to_at
),

-- A grant that ends leaves the state expired behind.
states as (
    select
        *,
        said_state as state_then,
        valid_from_at as state_from,
        case when is_grant then least(valid_to_at, ends_at) else valid_to_at end as state_to
    from lasting
    where not is_grant or ends_at is null or ends_at > valid_from_at

    union all

    select
        *,
        'expired' as state_then,
        greatest(valid_from_at, ends_at) as state_from,
        valid_to_at as state_to
    from lasting
    where is_grant and ends_at is not null and (valid_to_at is null or ends_at < valid_to_at)
),

final as (
    select
        {{ hash_key("cast(consent_key as varchar) || '|' || state_then") }} as consent_state_key,
        consent_key,
        identifier_id,

        contact_point,
        contact_point_type,
        channel,
        purpose,
        state_then as state,
        suppression,
        lawful_basis,
        notice_version,

        is_permission and state_then <> 'expired' as is_permission,

        state_from as valid_from_at,
        state_to as valid_to_at
    from states
)

select * from final
