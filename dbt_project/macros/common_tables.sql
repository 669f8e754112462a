{#- Whether a common table expression is kept or written out wherever it is named, where the engine's guess costs much. -#}

{% macro inlined() -%}
    {{ return(adapter.dispatch("inlined", "mailwright")()) }}
{%- endmacro %}

{% macro duckdb__inlined() -%}
    not materialized
{%- endmacro %}

{% macro materialized() -%}
    {{ return(adapter.dispatch("materialized", "mailwright")()) }}
{%- endmacro %}

{% macro duckdb__materialized() -%}
    materialized
{%- endmacro %}
