# Secrets of the gateway, as files and variables. The pepper and the operators' key are created here and are in no
# state file: read them from Secret Manager. The key of the Gemini Developer API is created by hand.

locals {
  file_secrets = merge(
    {
      monitoring = file("${path.module}/../cloudrun/monitoring.yaml")
      store-ca   = local.store_ca
    },
    var.tenants_file == null ? {} : { tenants = file(var.tenants_file) },
  )
  secret_names = toset(concat(
    ["admin-key", "key-pepper", "monitoring", "store-ca"],
    var.tenants_file == null ? [] : ["tenants"],
  ))
  readable_secrets = merge(
    { for name, secret in google_secret_manager_secret.own : name => secret.id },
    var.back_end == "gemini" ? { gemini-api-key = var.gemini_api_key_secret } : {},
  )
}

resource "google_secret_manager_secret" "own" {
  for_each = local.secret_names

  project   = var.project
  secret_id = "${var.name}-${each.value}"

  replication {
    auto {}
  }

  depends_on = [google_project_service.apis]
}

resource "google_secret_manager_secret_version" "files" {
  for_each = setsubtract(local.secret_names, ["admin-key", "key-pepper"])

  secret      = google_secret_manager_secret.own[each.value].id
  secret_data = local.file_secrets[each.value]
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

ephemeral "random_password" "admin_key" {
  length  = 64
  special = false
}

resource "google_secret_manager_secret_version" "admin_key" {
  secret                 = google_secret_manager_secret.own["admin-key"].id
  secret_data_wo         = ephemeral.random_password.admin_key.result
  secret_data_wo_version = var.admin_key_version
}

resource "google_secret_manager_secret_iam_member" "gateway" {
  for_each = local.readable_secrets

  project   = var.project
  secret_id = each.value
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.gateway.member
}
