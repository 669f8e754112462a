{#-
    What was known when. A version of a fact is known since `known_at`, and stands until `superseded_at`, when another
    took its place; null while none has. `as_of` is an exclusive bound: what became known at that very instant was not
    known yet.
-#}

{% macro stands_at(relation, as_of) -%}
    {#- Whether a version is the one that was known at an instant. -#}
    (
        {{ relation }}.known_at < {{ as_of }}
        and ({{ relation }}.superseded_at is null or {{ relation }}.superseded_at >= {{ as_of }})
    )
{%- endmacro %}

{% macro reversed_at(relation, as_of) -%}
    {#- Whether it was known at an instant that all of an order had come back; never null. -#}
    coalesce(
        {{ relation }}.reversed_known_at < {{ as_of }}
        and ({{ relation }}.reversal_ended_at is null or {{ relation }}.reversal_ended_at >= {{ as_of }}),
        false
    )
{%- endmacro %}

{% macro machine_at(relation, as_of) -%}
    {#- Whether it was known at an instant that a machine opened or clicked, not a person; never null. -#}
    coalesce({{ relation }}.is_machine and {{ relation }}.machine_known_at < {{ as_of }}, false)
{%- endmacro %}

{% macro clock_as_of() -%}
    {#-
        The as_of of the clock, as a value to compare with. Joining the clock on an inequality would have DuckDB sort the
        whole table for it, five times the cost of reading it.
    -#}
    (select clock.as_of from {{ ref("stg_lake__clock") }} as clock)
{%- endmacro %}
