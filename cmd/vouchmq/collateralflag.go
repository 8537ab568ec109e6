package main

import (
	"fmt"
	"os"

	"github.com/spf13/pflag"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/collateral"
	"github.com/vouchmq/vouchmq/client"
)

// collateralFlag names a store of collateral to verify with; empty is none.
type collateralFlag string

func (f *collateralFlag) register(fs *pflag.FlagSet) {
	fs.StringVar((*string)(f), "collateral", "", "directory of collateral to verify Intel's evidence with (default: what comes with the evidence)")
}

// registry returns the verifiers, with the store if there is one.
func (f *collateralFlag) registry() (*attest.Registry, error) {
	store, err := f.store()
	if err != nil || store == nil {
		return client.Drivers(), err
	}
	return client.DriversWith(store), nil
}

// store opens the store, nil if none is named. A directory that is not there is an error: it would have been named in vain.
func (f *collateralFlag) store() (*collateral.Store, error) {
	if *f == "" {
		return nil, nil
	}
	if _, err := os.Stat(string(*f)); err != nil {
		return nil, fmt.Errorf("--collateral: %w", err)
	}
	store, err := collateral.Open(string(*f))
	if err != nil {
		return nil, fmt.Errorf("--collateral: %w", err)
	}
	return store, nil
}
