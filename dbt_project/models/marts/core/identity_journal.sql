with

journal as (
    select * from {{ ref("stg_identity__journal") }}
),

counted as (
    select
        {{ hash_key("cast(run as varchar) || '|' || cast(entry as varchar)") }} as journal_key,
        run,
        entry,
        customer_id,
        other_customer_id,

        event,
        evidence,

        cast({{ array_size("identifier_ids") }} as integer) as record_count,

        as_of
    from journal
)

select * from counted
