# What every cloud needs: the user data of a machine that runs edge. It asks for no provider; aws/ shows how it is used.
terraform {
  required_version = ">= 1.5"
}

variable "package" {
  type        = string
  description = "What pip installs: the URL of a wheel, or a requirement that the index has."
}

variable "index" {
  type        = string
  default     = ""
  description = "The index that pip asks; empty: its default."
}

variable "settings" {
  type        = string
  description = "The text of edge.toml."
}

variable "files" {
  type        = map(string)
  default     = {}
  sensitive   = true
  description = "Other files below /etc/edge, by their names. User data can be read on the machine: fetch long-lived keys from a store."
}

output "user_data" {
  description = "For cloud-init."
  sensitive   = true
  value = templatefile("${path.module}/cloud-init.yaml.tftpl", {
    package  = var.package
    index    = var.index == "" ? "" : "--index-url ${var.index}"
    settings = base64encode(var.settings)
    files    = { for name, content in var.files : name => base64encode(content) }
  })
}
