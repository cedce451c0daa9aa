# The service. deploy/cloudrun/service.vertex.yaml says the same with the reasons beside each line, and a test
# compares the two.

locals {
  public_url = "https://${var.name}-${data.google_project.this.number}.${var.region}.run.app"

  settings = merge(
    {
      FLASHGATE_UPSTREAM           = var.back_end
      FLASHGATE_PUBLIC_URL         = local.public_url
      FLASHGATE_IDENTITY_AUDIENCES = local.public_url
      FLASHGATE_METRICS_PORT       = "9464"
      FLASHGATE_TRACE_PROJECT      = var.project
      FLASHGATE_BODY_BYTES_MAX     = "33554432"
      FLASHGATE_UPSTREAM_TIMEOUT_S = "300"
      FLASHGATE_DRAIN_S            = "6"
      FLASHGATE_REDIS_URL          = local.store_url
      FLASHGATE_REDIS_CA_FILE      = "${local.store_ca_mount}/ca.pem"
      FLASHGATE_REDIS_IAM          = "true"
    },
    var.back_end == "vertex" ? { FLASHGATE_VERTEX_PROJECT = var.project } : {},
    var.tenants_file == null ? {} : { FLASHGATE_TENANTS_FILE = "/etc/flashgate/tenants/tenants.yaml" },
    var.settings,
  )

  secret_settings = merge(
    {
      FLASHGATE_KEY_PEPPER = {
        secret  = google_secret_manager_secret.own["key-pepper"].secret_id
        version = google_secret_manager_secret_version.key_pepper.version
      }
      FLASHGATE_ADMIN_KEY = {
        secret  = google_secret_manager_secret.own["admin-key"].secret_id
        version = google_secret_manager_secret_version.admin_key.version
      }
    },
    var.back_end == "gemini" ? {
      FLASHGATE_GEMINI_API_KEY = { secret = var.gemini_api_key_secret, version = "latest" }
    } : {},
  )

  files = merge(
    {
      store-ca   = { mount = local.store_ca_mount, path = "ca.pem", container = "gateway" }
      monitoring = { mount = "/etc/rungmp", path = "config.yaml", container = "collector" }
    },
    var.tenants_file == null ? {} : {
      tenants = { mount = "/etc/flashgate/tenants", path = "tenants.yaml", container = "gateway" }
    },
  )
}

resource "google_cloud_run_v2_service" "gateway" {
  project             = var.project
  name                = var.name
  location            = var.region
  ingress             = var.ingress
  launch_stage        = "BETA" # for the readiness probe
  deletion_protection = var.deletion_protection

  template {
    service_account                  = google_service_account.gateway.email
    execution_environment            = "EXECUTION_ENVIRONMENT_GEN2"
    max_instance_request_concurrency = var.concurrency
    timeout                          = "360s"

    scaling {
      min_instance_count = var.instances_min
      max_instance_count = var.instances_max
    }

    vpc_access {
      egress = "PRIVATE_RANGES_ONLY"
      network_interfaces {
        network    = var.network
        subnetwork = var.subnetwork
      }
    }

    containers {
      name  = "gateway"
      image = var.image

      ports {
        name           = "http1"
        container_port = 8080
      }

      resources {
        limits = {
          cpu    = "1"
          memory = "${var.memory_mib}Mi"
        }
        cpu_idle          = false
        startup_cpu_boost = true
      }

      dynamic "env" {
        for_each = local.settings
        content {
          name  = env.key
          value = env.value
        }
      }

      dynamic "env" {
        for_each = local.secret_settings
        content {
          name = env.key
          value_source {
            secret_key_ref {
              secret  = env.value.secret
              version = env.value.version
            }
          }
        }
      }

      dynamic "volume_mounts" {
        for_each = { for name, file in local.files : name => file if file.container == "gateway" }
        content {
          name       = volume_mounts.key
          mount_path = volume_mounts.value.mount
        }
      }

      startup_probe {
        period_seconds    = 2
        timeout_seconds   = 2
        failure_threshold = 30
        http_get {
          path = "/readyz"
          port = 8080
        }
      }

      liveness_probe {
        period_seconds    = 10
        timeout_seconds   = 5
        failure_threshold = 3
        http_get {
          path = "/livez"
          port = 8080
        }
      }

      readiness_probe {
        period_seconds    = 10
        timeout_seconds   = 5
        failure_threshold = 3
        http_get {
          path = "/readyz"
          port = 8080
        }
      }
    }

    containers {
      name       = "collector"
      image      = "us-docker.pkg.dev/cloud-ops-agents-artifacts/cloud-run-gmp-sidecar/cloud-run-gmp-sidecar:1.2.0"
      depends_on = ["gateway"]

      dynamic "volume_mounts" {
        for_each = { for name, file in local.files : name => file if file.container == "collector" }
        content {
          name       = volume_mounts.key
          mount_path = volume_mounts.value.mount
        }
      }
    }

    dynamic "volumes" {
      for_each = local.files
      content {
        name = volumes.key
        secret {
          secret = google_secret_manager_secret.own[volumes.key].secret_id
          items {
            version = google_secret_manager_secret_version.files[volumes.key].version
            path    = volumes.value.path
          }
        }
      }
    }
  }

  lifecycle {
    precondition {
      condition     = var.back_end != "gemini" || var.gemini_api_key_secret != null
      error_message = "The back end gemini needs gemini_api_key_secret."
    }
    precondition {
      condition     = 110 + var.concurrency * 103 <= var.memory_mib
      error_message = "That many requests at once do not fit into the memory: 110 MiB and 103 MiB for each."
    }
  }

  depends_on = [google_project_iam_member.gateway, google_secret_manager_secret_iam_member.gateway]
}
