"""The guide's requests and queries, word for word: what its readers paste must go on working."""

# ruff: noqa: E501 - the guide's own lines

REQUESTS = r"""
curl -X GET  "http://localhost:8084/api/v1/admin/llm/providers" -H "Authorization: Bearer $ADMIN_TOKEN"
curl -X POST "http://localhost:8084/api/v1/admin/llm/providers" -H "Authorization: Bearer $ADMIN_TOKEN" -H "Content-Type: application/json" \
  -d '{"provider_name": "Anthropic", "provider_slug": "anthropic", "display_name": "Anthropic", "base_url": "https://api.anthropic.com/v1", "auth_type": "api_key",
       "supports_streaming": true, "supports_function_calling": true, "is_byok_supported": true, "min_tier_required": "starter"}'
curl -X GET  "http://localhost:8084/api/v1/admin/llm/providers/1/health" -H "Authorization: Bearer $ADMIN_TOKEN"
GET /api/v1/llm/providers    GET /api/v1/llm/models[?provider_name=...]    GET /api/v1/llm/configs    POST /api/v1/llm/configs
"""

QUERIES = r"""
SELECT m.model_name, m.power_level, p.provider_name FROM llm_models m JOIN llm_providers p ON m.provider_id = p.id
 WHERE m.power_level = 'balanced' AND m.is_active = true ORDER BY m.power_level_priority;
SELECT user_id, COUNT(*) as total_requests, SUM(total_tokens) as total_tokens, SUM(cost_total_usd) as total_cost, AVG(latency_ms) as avg_latency,
       SUM(CASE WHEN used_byok THEN 1 ELSE 0 END) as byok_requests
  FROM llm_usage_logs WHERE user_id = 'user-uuid' AND created_at >= NOW() - INTERVAL '30 days' GROUP BY user_id;
SELECT m.model_name, p.provider_name, COUNT(*) as request_count, SUM(l.cost_total_usd) as total_cost, AVG(l.cost_total_usd) as avg_cost_per_request
  FROM llm_usage_logs l JOIN llm_models m ON l.model_id = m.id JOIN llm_providers p ON m.provider_id = p.id
 WHERE l.created_at >= NOW() - INTERVAL '7 days' GROUP BY m.model_name, p.provider_name ORDER BY total_cost DESC LIMIT 10;
SELECT r.power_level, r.user_tier, r.task_type, r.priority, m.model_name, p.provider_name FROM llm_routing_rules r
  JOIN llm_models m ON r.model_id = m.id JOIN llm_providers p ON m.provider_id = p.id
 WHERE r.user_tier = 'professional' AND r.is_active = true ORDER BY r.power_level, r.priority;
SELECT * FROM llm_routing_rules WHERE is_active = true;
SELECT * FROM llm_models WHERE is_active = true;
SELECT * FROM user_api_keys WHERE user_id = 'user-uuid' AND is_validated = true;
SELECT model_id, SUM(cost_total_usd) as total_cost FROM llm_usage_logs WHERE created_at >= NOW() - INTERVAL '7 days' GROUP BY model_id ORDER BY total_cost DESC;
"""


def queries() -> list[str]:
    """The eight queries, in the guide's order."""
    return [query.strip() for query in QUERIES.split(";\n") if query.strip()]
