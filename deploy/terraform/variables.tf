variable "project" {
  description = "Google Cloud project in which everything is created."
  type        = string
}

variable "region" {
  description = "Region of the service and its store. Vertex AI itself is called at the location global."
  type        = string
  default     = "europe-west1"
}

variable "name" {
  description = "Name of the service, and prefix of the names of all its resources."
  type        = string
  default     = "flashgate"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,20}$", var.name))
    error_message = "At most 21 lower-case letters, digits and hyphens, beginning with a letter."
  }
}

variable "image" {
  description = "Container image, by its digest, so that the tested image is the one that runs."
  type        = string

  validation {
    condition     = can(regex("@sha256:[0-9a-f]{64}$", var.image))
    error_message = "The image must end with @sha256: and its digest; a tag can come to mean another image."
  }
}

variable "network" {
  description = "VPC network (projects/…/global/networks/…) of the store's address and the service's egress."
  type        = string
}

variable "subnetwork" {
  description = "Subnetwork (projects/…/regions/…/subnetworks/…) of the network, at least a /26: Cloud Run takes up to four addresses for each instance."
  type        = string
}

variable "back_end" {
  description = "Back end: vertex (as the service account) or gemini (with a key)."
  type        = string
  default     = "vertex"

  validation {
    condition     = contains(["vertex", "gemini"], var.back_end)
    error_message = "Either vertex or gemini."
  }
}

variable "gemini_api_key_secret" {
  description = "With the back end gemini: id of a secret in Secret Manager that holds the key. Create it by hand, so that the key never passes through Terraform."
  type        = string
  default     = null
}

variable "tenants_file" {
  description = "Path of the tenants' file, which holds hashes of keys and never keys. Without it, tenants are made with the Admin API."
  type        = string
  default     = null
}

variable "admin_key_version" {
  description = "Raise it to create a new operators' key; the old one is invalid once the new revision serves."
  type        = number
  default     = 1
}

variable "key_pepper_version" {
  description = "Raise it to create a new pepper, which invalidates all keys; read the runbook first."
  type        = number
  default     = 1
}

variable "callers" {
  description = "Who may call the service at all, as IAM members (serviceAccount:…, group:…). The gateway key decides whose budget a call uses."
  type        = set(string)
  default     = []

  validation {
    condition     = length(setintersection(var.callers, ["allUsers", "allAuthenticatedUsers"])) == 0
    error_message = "The service is not opened to everybody."
  }
}

variable "ingress" {
  description = "Where requests may come from."
  type        = string
  default     = "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER"
}

variable "instances_min" {
  description = "Minimum number of instances, which always run."
  type        = number
  default     = 2
}

variable "instances_max" {
  description = "Maximum number of instances. Times concurrency, it limits the calls to Google at once."
  type        = number
  default     = 20
}

variable "concurrency" {
  description = "Requests that one instance serves at once. Each may hold 103 MiB: body 32, decoded 24, a 4K picture and its base64 47."
  type        = number
  default     = 16
}

variable "memory_mib" {
  description = "Memory of one instance, in MiB."
  type        = number
  default     = 2048
}

variable "store_node_type" {
  description = "Node type of the store. HIGHMEM_MEDIUM has 13 GB: budgets need a few hundred bytes a tenant, the rest is cache."
  type        = string
  default     = "STANDARD_SMALL"
}

variable "store_replicas" {
  description = "Replicas of the store, in other zones. With none, an outage of a zone stops the gateway."
  type        = number
  default     = 1
}

variable "store_engine_version" {
  description = "Engine of the store. Valkey 8 and 9 are supported."
  type        = string
  default     = "VALKEY_9_0"
}

variable "create_connection_policy" {
  description = "Whether to create the service connection policy that Memorystore needs; a network has only one in each region."
  type        = bool
  default     = true
}

variable "deletion_protection" {
  description = "Whether service and store are protected from deletion."
  type        = bool
  default     = true
}

variable "settings" {
  description = "Further FLASHGATE_ variables, as REFERENCE.md lists them."
  type        = map(string)
  default     = {}
}

variable "notification_channels" {
  description = "Cloud Monitoring channels for alerts. Without any, no alert policy is created."
  type        = list(string)
  default     = []
}
