package collateral_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/vouchmq/vouchmq/attest/collateral"
)

// A service that leads on to another, or never comes to an end with its headers, is not followed.
func TestServiceThatLeadsElsewhere(t *testing.T) {
	inner := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("somebody was led to a service inside") }))
	defer inner.Close()
	for text, answer := range map[string]http.HandlerFunc{
		"leads on to " + inner.URL: func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, inner.URL, http.StatusFound) },
		"exceeded":                 func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 1<<20)) },
	} {
		outer := httptest.NewServer(answer)
		defer outer.Close()
		client := &collateral.Client{HTTP: collateral.HTTP(), RootCRL: outer.URL}
		if _, err := client.Fetch(t.Context(), collateral.Name{Kind: collateral.RootCRL}, collateral.Standard); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v does not say %q", err, text)
		}
	}
}
