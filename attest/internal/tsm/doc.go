// Package tsm asks the kernel's configfs-tsm (Linux 6.7 and later) for reports, as all confidential VMs have them in common: Intel TDX, AMD
// SEV-SNP, Arm CCA. It tries again while the kernel is busy or others get in the way, keeps the kernel's errors, and does not wait for longer than its
// caller does.
//
// Source: Linux, Documentation/ABI/testing/configfs-tsm-report.
package tsm
