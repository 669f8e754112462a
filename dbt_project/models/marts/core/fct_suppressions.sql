with

clock as (
    select * from {{ ref("stg_lake__clock") }}
),

bindings as (
    select * from {{ ref("refusal_bindings") }}
),

-- It counts whenever it became known.
refusals as (
    select
        *,
        coalesce(suppression, case when purpose = 'marketing' then 'unsubscribe' else 'objection' end)
            as suppression_type,
        case
            when suppression in ('erasure', 'legal') then 'everything'
            when suppression = 'hard_bounce' then 'address'
            when suppression = 'objection' or purpose <> 'marketing' then 'purpose'
            else 'promotional'
        end as reach
    from {{ ref("fct_consents") }}
    where suppression is not null or state = 'withdrawn'
),

-- Whoever is named by contact is named; a number alone binds who has it, an address always.
subjects as (
    select
        consent_key,
        contact_identifier_id as subject_id,
        known_at
    from refusals
    where reach <> 'address' and contact_identifier_id is not null

    union

    select
        consent_key,
        identifier_id as subject_id,
        known_at
    from refusals
    where
        reach <> 'address'
        and contact_point is not null
        and (contact_point_type = 'email' or contact_identifier_id is null)
),

-- A split of this very as_of ends nothing that was said beyond the clock.
bound as (
    select
        subjects.consent_key,
        bindings.customer_id,
        min(case when bindings.ended_at is null then 0 else 1 end) = 1 as is_by_former_merge
    from subjects
    cross join clock
    inner join bindings
        on
            subjects.subject_id = bindings.identifier_id
            and (bindings.ended_at is null or bindings.ended_at > subjects.known_at or bindings.ended_at >= clock.as_of)
    group by
        subjects.consent_key,
        bindings.customer_id
),

final as (
    select
        {{ hash_key("cast(refusals.consent_key as varchar) || '|' || coalesce(bound.customer_id, '')") }}
            as suppression_key,
        refusals.consent_key,
        refusals.identifier_id,
        refusals.contact_identifier_id,
        bound.customer_id,

        refusals.contact_point,
        refusals.contact_point_type,
        refusals.channel,
        refusals.purpose,
        refusals.suppression_type,
        refusals.reach,
        refusals.origin,

        coalesce(bound.is_by_former_merge, false) as is_by_former_merge,

        refusals.captured_at,
        refusals.known_at
    from refusals
    left join bound on refusals.consent_key = bound.consent_key
)

select * from final
