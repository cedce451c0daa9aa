# What the gateway gets as files and variables. The pepper is made here and is in no state file: whoever needs
# it to make keys reads it from Secret Manager. The key of the Gemini Developer API is made by hand.

locals {
  secrets = {
    key-pepper = null
    monitoring = file("${path.module}/../cloudrun/monitoring.yaml")
    store-ca   = local.store_ca
    tenants    = file(var.tenants_file)
  }
  readable_secrets = merge(
    { for name, secret in google_secret_manager_secret.own : name => secret.id },
    var.back_end == "gemini" ? { gemini-api-key = var.gemini_api_key_secret } : {},
  )
}

resource "google_secret_manager_secret" "own" {
  for_each = toset(["key-pepper", "monitoring", "store-ca", "tenants"])

  project   = var.project
  secret_id = "${var.name}-${each.value}"

  replication {
    auto {}
  }

  depends_on = [google_project_service.apis]
}

resource "google_secret_manager_secret_version" "files" {
  for_each = toset(["monitoring", "store-ca", "tenants"])

  secret      = google_secret_manager_secret.own[each.value].id
  secret_data = local.secrets[each.value]
}

ephemeral "random_password" "key_pepper" {
  length  = 64
  special = false
}

resource "google_secret_manager_secret_version" "key_pepper" {
  secret                 = google_secret_manager_secret.own["key-pepper"].id
  secret_data_wo         = ephemeral.random_password.key_pepper.result
  secret_data_wo_version = var.key_pepper_version
}

resource "google_secret_manager_secret_iam_member" "gateway" {
  for_each = local.readable_secrets

  project   = var.project
  secret_id = each.value
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.gateway.member
}
