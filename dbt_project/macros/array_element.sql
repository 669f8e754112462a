{% macro array_element(array, number) -%}
    {#- The element of that number, counted from 1. -#}
    {{ return(adapter.dispatch("array_element", "mailwright")(array, number)) }}
{%- endmacro %}

{% macro duckdb__array_element(array, number) -%}
    list_extract({{ array }}, {{ number }})
{%- endmacro %}
