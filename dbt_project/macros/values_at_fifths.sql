{% macro values_at_fifths(value) -%}
    {#-
        Aggregate: the values at 20, 40, 60 and 80 % by nearest rank, (k * n + 4) div 5 of n ascending values, as an array.

        Not for engines whose percentiles take fractions as floats only: 3 / 5 is none.
    -#}
    {{ return(adapter.dispatch("values_at_fifths", "mailwright")(value)) }}
{%- endmacro %}

{% macro duckdb__values_at_fifths(value) -%}
    {#- With decimal fractions DuckDB finds the rank in whole numbers. -#}
    quantile_disc({{ value }}, [0.2, 0.4, 0.6, 0.8])
{%- endmacro %}
