package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/pflag"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/client"
)

// askFlags say how to ask a broker for its evidence, and which certificate to show if it wants one. Without a bundle the
// certificate is for ordinary TLS.
type askFlags struct {
	carrier, cert, key string
	collateral         collateralFlag
}

func (f *askFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.carrier, "carrier", "", "how the broker's evidence is to travel: n1, in its first flight (default), or p1, as first data")
	fs.StringVar(&f.cert, "cert", "", "file with the client's certificate")
	fs.StringVar(&f.key, "key", "", "file with the key of that certificate")
	f.collateral.register(fs)
}

// apply puts the flags into the options of a connection with a bundle.
func (f *askFlags) apply(o *client.Options) (err error) {
	switch o.Carrier = atls.Carrier(f.carrier); o.Carrier {
	case "", atls.N1, atls.P1:
	default:
		return fmt.Errorf("--carrier %s: it is %s or %s", f.carrier, atls.N1, atls.P1)
	}
	if o.Registry, err = f.collateral.registry(); err != nil {
		return err
	}
	o.Certificate, err = f.certificate()
	return err
}

// notAsked is told who gives a certificate in vain.
const notAsked = "the broker asked for no certificate, and --cert is not used: it asks clients with a bundle where the listener has \"reveal: authenticated\""

// noteUnused tells on w that a certificate is given that the broker has not asked for.
func (f *askFlags) noteUnused(w io.Writer, asked bool) {
	if f.cert != "" && !asked {
		fmt.Fprintln(w, "note: "+notAsked)
	}
}

// certificate reads the certificate with its key, nil if none is given.
func (f *askFlags) certificate() (*tls.Certificate, error) {
	if f.cert == "" && f.key == "" {
		return nil, nil
	}
	if f.cert == "" || f.key == "" {
		return nil, errors.New("--cert and --key belong together: the file of the certificate, and that of its key")
	}
	pair, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return nil, fmt.Errorf("--cert and --key: %w", err)
	}
	return &pair, nil
}
