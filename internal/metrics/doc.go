// Package metrics shows what a broker does to those who operate it: as metrics for Prometheus, as answers to whether it
// lives and is ready, and as the values below $SYS that Mosquitto's users know.
//
//	Source ── Cached ──┬── collector ── /metrics
//	                   ├── /healthz
//	                   └── Publisher ── History.Next, Topics ── retained messages below $SYS
//
// Everything comes from one [Snapshot], which a [Source] makes: the server. A snapshot costs the core one event, so
// [Cached] keeps it for a moment; nobody can load the core by scraping.
//
// No metric has a client id, a user name, a topic or an address as a label: their number would have no bound, and
// whoever reads metrics would learn what clients do. docs/metrics.md lists all names; a test compares.
package metrics
