# The alert rules of deploy/prometheus, each as a policy of Cloud Monitoring, which speaks PromQL. Recording
# rules do not exist there, so their names are replaced by their expressions.

locals {
  recorded = {
    for rule in flatten([for group in yamldecode(file("${path.module}/../prometheus/rules/recording.yml")).groups : group.rules]) :
    rule.record => trimspace(rule.expr)
  }
  alerts = {
    for rule in flatten([for group in yamldecode(file("${path.module}/../prometheus/rules/alerts.yml")).groups : group.rules]) :
    rule.alert => rule
    # These need Prometheus' own series about its targets, which the collector does not write.
    if !contains(["FlashgateDown", "FlashgateAbsent", "FlashgateRestarts"], rule.alert)
  }
  severities = { page = "CRITICAL", ticket = "ERROR", info = "WARNING" }
}

resource "google_monitoring_alert_policy" "alerts" {
  for_each = length(var.notification_channels) > 0 ? local.alerts : {}

  project               = var.project
  display_name          = each.key
  combiner              = "OR"
  severity              = local.severities[each.value.labels.severity]
  notification_channels = var.notification_channels

  conditions {
    display_name = each.key
    condition_prometheus_query_language {
      # Cut into recorded names and single characters, and put together again.
      query = join("", [
        for part in regexall("flashgate:[a-z_]+:[a-z0-9_]+|(?s:.)", each.value.expr) :
        contains(keys(local.recorded), part) ? "(${local.recorded[part]})" : part
      ])
      duration            = "${try(tonumber(trimsuffix(each.value.for, "m")), 0) * 60}s"
      evaluation_interval = "60s"
    }
  }

  documentation {
    # Prometheus' place-holders mean nothing here: {{ $labels.tenant }} becomes (tenant).
    content   = "${replace(each.value.annotations.summary, "/\\{\\{ \\$(?:labels\\.)?(\\w+)[^}]*\\}\\}/", "($1)")}\n\nSee deploy/RUNBOOK.md, ${each.key}."
    mime_type = "text/markdown"
  }

  depends_on = [google_project_service.apis]
}
