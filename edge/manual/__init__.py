"""The manual: one Markdown page for each topic, shown by `edge help TOPIC`."""
