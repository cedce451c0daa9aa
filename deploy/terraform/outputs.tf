output "url" {
  description = "Where the service answers."
  value       = local.public_url
}

output "service_account" {
  description = "Who the gateway is."
  value       = google_service_account.gateway.email
}

output "key_pepper_secret" {
  description = "Where to read the pepper, to make keys with: flashgate keys new."
  value       = google_secret_manager_secret.own["key-pepper"].id
}

output "admin_key_secret" {
  description = "Where to read the operators' first key, for the Admin API and the commands flashgate tenants and flashgate keys."
  value       = google_secret_manager_secret.own["admin-key"].id
}

output "store_address" {
  description = "The store's private address."
  value       = local.store_address
}
