package metrics

import "strings"

// valid makes labels that Prometheus takes: UTF-8. What else a label holds is its own matter.
func valid(labels []string) []string {
	for i, l := range labels {
		labels[i] = strings.ToValidUTF8(l, "\uFFFD")
	}
	return labels
}
