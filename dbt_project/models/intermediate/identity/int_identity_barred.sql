with

decisions as (
    select * from {{ ref("int_identity_decisions") }}
),

barred as (
    select
        left_id,
        right_id,
        'steward' as rule
    from decisions
    where decision = 'split' and is_known
)

select * from barred
