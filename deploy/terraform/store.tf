# The store. One shard without cluster mode, because the gateway speaks to one server; replicas take over.

resource "google_network_connectivity_service_connection_policy" "store" {
  count = var.create_connection_policy ? 1 : 0

  project       = var.project
  name          = "${var.name}-store"
  location      = var.region
  service_class = "gcp-memorystore"
  network       = var.network

  psc_config {
    subnetworks = [var.subnetwork]
  }

  depends_on = [google_project_service.apis]
}

resource "google_memorystore_instance" "store" {
  project     = var.project
  instance_id = "${var.name}-store"
  location    = var.region

  mode           = "CLUSTER_DISABLED"
  shard_count    = 1
  replica_count  = var.store_replicas
  node_type      = var.store_node_type
  engine_version = var.store_engine_version

  # Budgets have no TTL and must never be evicted; pictures and results have one and may be. The
  # gateway refuses to start on an allkeys policy.
  engine_configs = {
    maxmemory-policy = "volatile-lfu"
  }

  # Budgets survive a restart of every node, except for the last second.
  persistence_config {
    mode = "AOF"
    aof_config {
      append_fsync = "EVERY_SEC"
    }
  }

  # Only this network can reach the store, only the gateway's account is admitted, and traffic is encrypted.
  authorization_mode      = "IAM_AUTH"
  transit_encryption_mode = "SERVER_AUTHENTICATION"

  desired_auto_created_endpoints {
    network    = var.network
    project_id = var.project
  }

  zone_distribution_config {
    mode = "MULTI_ZONE"
  }

  maintenance_policy {
    weekly_maintenance_window {
      day = "SUNDAY"
      start_time {
        hours = 3
      }
    }
  }

  deletion_protection_enabled = var.deletion_protection

  depends_on = [google_network_connectivity_service_connection_policy.store]
}

locals {
  # Without cluster mode there are two addresses: of the primary node, and of the replicas to read from.
  store_address = one([
    for connection in flatten([for endpoint in google_memorystore_instance.store.endpoints : endpoint.connections]) :
    connection.psc_auto_connection[0].ip_address
    if connection.psc_auto_connection[0].connection_type == "CONNECTION_TYPE_PRIMARY"
  ])

  store_ca_mount = "/etc/flashgate/store-ca"
  store_url      = "rediss://${local.store_address}:6379"

  store_ca = join("\n", flatten([
    for authority in google_memorystore_instance.store.managed_server_ca :
    [for chain in authority.ca_certs : chain.certificates]
  ]))
}
