# flashgate on Cloud Run with a Memorystore for Valkey: everything but the network and the image.

locals {
  apis = toset(concat(
    [
      "cloudresourcemanager.googleapis.com",
      "memorystore.googleapis.com",
      "monitoring.googleapis.com",
      "networkconnectivity.googleapis.com",
      "run.googleapis.com",
      "secretmanager.googleapis.com",
    ],
    var.back_end == "vertex" ? ["aiplatform.googleapis.com"] : ["generativelanguage.googleapis.com"],
  ))
}

data "google_project" "this" {
  project_id = var.project
}

resource "google_project_service" "apis" {
  for_each = local.apis

  project            = var.project
  service            = each.value
  disable_on_destroy = false
}

# The gateway's own service account; nothing else runs as it.
resource "google_service_account" "gateway" {
  project      = var.project
  account_id   = var.name
  display_name = "flashgate"
}

resource "google_project_iam_member" "gateway" {
  for_each = toset(concat(
    ["roles/memorystore.dbConnectionUser", "roles/monitoring.metricWriter"],
    var.back_end == "vertex" ? ["roles/aiplatform.user"] : [],
  ))

  project = var.project
  role    = each.value
  member  = google_service_account.gateway.member
}

# Cloud Run itself admits only these callers.
resource "google_cloud_run_v2_service_iam_member" "callers" {
  for_each = var.callers

  project  = var.project
  location = var.region
  name     = google_cloud_run_v2_service.gateway.name
  role     = "roles/run.invoker"
  member   = each.value
}
