{{ config(materialized="incremental", unique_key="delivery_id") }}

with

problems as (
    {%- for relation, field, problem in [
        ("stg_shop__orders", "email", "email_problem"),
        ("stg_shop__orders", "phone", "phone_problem"),
        ("stg_pos__sales", "email", "email_problem"),
        ("stg_web__events", "email", "email_problem"),
        ("stg_email__sends", "email", "email_problem"),
        ("stg_email__events", "email", "email_problem"),
    ] %}
    {%- set source, table_name = relation.removeprefix("stg_").split("__") %}
    select
        '{{ source }}' as source,
        '{{ table_name }}' as table_name,
        delivery_id,
        row_number,
        '{{ field }}' as field,
        {{ problem }} as problem
    from {{ ref(relation) }}
    where
        {{ problem }} is not null
        and sequence > {{ last_sequence() }}
    {{- "\n\n    union all\n" if not loop.last }}
    {%- endfor %}
)

select * from problems
