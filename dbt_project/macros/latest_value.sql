{% macro latest_value(value, at, tie) -%}
    {#- Aggregate: the value of the row that is newest by `at`, nulls left out; among equals the greatest `tie`. -#}
    {{ return(adapter.dispatch("latest_value", "mailwright")(value, at, tie)) }}
{%- endmacro %}

{% macro duckdb__latest_value(value, at, tie) -%}
    arg_max({{ value }}, row(coalesce({{ at }}, cast('1900-01-01' as timestamp)), {{ tie }}))
{%- endmacro %}

{% macro first_value_by(value, at) -%}
    {#- Aggregate: the value of the row that comes first by `at`; among equals the smallest. -#}
    {{ return(adapter.dispatch("first_value_by", "mailwright")(value, at)) }}
{%- endmacro %}

{% macro duckdb__first_value_by(value, at) -%}
    arg_min({{ value }}, row({{ at }}, {{ value }}))
{%- endmacro %}
