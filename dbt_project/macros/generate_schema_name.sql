{% macro generate_schema_name(custom_schema_name, node) -%}
    {#- The schema is the folder's own name (`marts`, not `main_marts`): one warehouse file belongs to one home. -#}
    {{ (custom_schema_name or target.schema) | trim }}
{%- endmacro %}
