package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/module"
)

// versionInfo is what `vouchmq version --json` prints.
type versionInfo struct {
	Version string `json:"version"`
	Go      string `json:"go"`
	System  string `json:"system"`
	Module  string `json:"module"` // digest of the embedded module, "" if there is none
	ABI     int    `json:"abi"`
}

func newVersion() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "version",
		Short: "Print versions, and the digest of the module that this program carries",
		Example: `  vouchmq version
  vouchmq version --json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return printVersion(c.OutOrStdout(), asJSON) },
	}
	helpWithoutShorthand(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printVersion(w io.Writer, asJSON bool) error {
	v := versionInfo{Version: version, Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH, ABI: abi.Version}
	if wasm, err := module.Bytes(); err == nil {
		v.Module = attest.Sum(wasm).String()
	}
	if asJSON {
		return printJSON(w, v)
	}
	digest := v.Module
	if digest == "" {
		digest = "none: " + module.ErrNotBuilt.Error()
	}
	_, err := fmt.Fprintf(w, "vouchmq %s\ngo      %s %s\nmodule  %s\nABI     %d\n", v.Version, v.Go, v.System, digest, v.ABI)
	return err
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
