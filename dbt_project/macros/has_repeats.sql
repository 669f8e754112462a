{% macro has_repeats(number) -%}
    {#-
        Aggregate: whether a small number, not negative, may occur twice; never false where it does, and cheap where a count
        of distinct values is not. As bits, numbers that are all different add up to what they make together.
    -#}
    {{ return(adapter.dispatch("has_repeats", "mailwright")(number)) }}
{%- endmacro %}

{% macro duckdb__has_repeats(number) -%}
    {%- set bit = "cast(1 as bigint) << least(greatest(" ~ number ~ ", 0), 61)" -%}
    coalesce(sum({{ bit }}) <> bit_or({{ bit }}), false)
{%- endmacro %}
