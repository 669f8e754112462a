with

decisions as (
    select
        decision,
        {%- for side in ["left", "right"] %}
        trim({{ side }}_source) || '|' || trim({{ side }}_type) || '|' || case
            when {{ side }}_type = 'email' then {{ email_address(side ~ "_identifier") }}
            else trim({{ side }}_identifier)
        end as {{ side }}_key,
        {%- endfor %}
        decided_on
    from {{ ref("identity_decisions") }}
),

-- Either order of the two means the same.
keyed as (
    select
        decision,
        {{ hash_key("left_key") }} as left_id,
        {{ hash_key("right_key") }} as right_id,
        decided_on
    from decisions
),

ordered as (
    select
        decision,
        least(left_id, right_id) as left_id,
        greatest(left_id, right_id) as right_id,
        max(decided_on) as decided_on
    from keyed
    group by
        decision,
        least(left_id, right_id),
        greatest(left_id, right_id)
),

checked as (
    select
        ordered.left_id,
        ordered.right_id,

        ordered.decision,

        left_records.identifier_id is not null
        and right_records.identifier_id is not null
        and ordered.left_id <> ordered.right_id as is_known,

        ordered.decided_on
    from ordered
    left join {{ ref("int_person_records") }} as left_records on ordered.left_id = left_records.identifier_id
    left join {{ ref("int_person_records") }} as right_records on ordered.right_id = right_records.identifier_id
)

select * from checked
