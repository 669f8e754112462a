-- A failure means that two versions of an order document, or of an order, stand at one instant, or that a version ends
-- before it begins: an order would count twice, or not at all, in the features of some day.
{% for relation in ["int_order_document_versions", "int_orders"] %}
select
    '{{ relation }}' as relation,
    versions.source,
    versions.order_id,
    versions.known_at,
    versions.superseded_at
from {{ ref(relation) }} as versions
inner join {{ ref(relation) }} as others
    on versions.source = others.source and versions.order_id = others.order_id
where
    versions.superseded_at is not null
    and (
        versions.superseded_at <= versions.known_at
        or (versions.known_at < others.known_at and others.known_at < versions.superseded_at)
    )
{{ "union all" if not loop.last }}
{% endfor %}
