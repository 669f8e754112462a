with

given as (
    select
        'gender' as field,
        gender_given as given
    from {{ ref("stg_crm__contacts") }}
    where gender is null

    union all

    select
        'gender' as field,
        gender_given as given
    from {{ ref("stg_third_party__demographics") }}
    where gender is null

    union all

    select
        'language' as field,
        language_given as given
    from {{ ref("stg_crm__contacts") }}
    where language is null

    union all

    select
        'account_type' as field,
        account_type as given
    from {{ ref("stg_crm__contacts") }}

    union all

    select
        'order_status' as field,
        status as given
    from {{ ref("stg_shop__orders") }}

    union all

    select
        'order_channel' as field,
        channel as given
    from {{ ref("stg_shop__orders") }}
),

counted as (
    select
        field,
        given,
        count(*) as row_count
    from given
    where given is not null
    group by
        field,
        given
),

known as (
    select distinct
        field,
        value
    from {{ ref("category_values") }}
),

unknown as (
    select
        counted.field,
        counted.given,
        counted.row_count
    from counted
    left join known
        on
            counted.field = known.field
            and counted.given = known.value
    where known.value is null
)

select * from unknown
