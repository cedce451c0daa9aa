output "url" {
  description = "URL of the service."
  value       = local.public_url
}

output "service_account" {
  description = "Service account of the gateway."
  value       = google_service_account.gateway.email
}

output "key_pepper_secret" {
  description = "Secret that holds the pepper, for flashgate keys new."
  value       = google_secret_manager_secret.own["key-pepper"].id
}

output "admin_key_secret" {
  description = "Secret that holds the operators' first key, for the Admin API and the commands flashgate tenants and flashgate keys."
  value       = google_secret_manager_secret.own["admin-key"].id
}

output "store_address" {
  description = "The store's private address."
  value       = local.store_address
}
