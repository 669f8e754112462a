{#- The type of money and of other sums: decimal, so that a sum does not depend on its order. -#}
{% macro money() -%} decimal(18, 4) {%- endmacro %}
