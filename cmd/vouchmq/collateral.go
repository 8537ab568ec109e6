package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/attest/collateral"
	"github.com/vouchmq/vouchmq/attest/detect"
)

func newCollateral() *cobra.Command {
	c := &cobra.Command{
		Use:   "collateral",
		Short: "Fetch, show and verify what it takes to verify Intel's quotes",
		Long: `Fetch, show and verify what it takes to verify Intel's quotes: TCB info, identities of the quoting enclaves and revocation lists. Intel signs
them, and replaces them about once a month. They are kept in a directory, which works offline and can be copied.`,
	}
	helpWithoutShorthand(c)
	c.AddCommand(newCollateralFetch(), newCollateralShow(), newCollateralVerify())
	return c
}

// storeFlags name a store, and the service that fills it.
type storeFlags struct {
	dir, at, pcs, rootCRL string
}

func (f *storeFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.dir, "dir", "", "directory of the store (default: vouchmq/collateral in the user's cache directory)")
	c.Flags().StringVar(&f.at, "time", "", "the time to look at it as of, as 2026-01-31T12:00:00Z (default: now)")
	c.MarkFlagDirname("dir")
}

func (f *storeFlags) registerService(c *cobra.Command) {
	c.Flags().StringVar(&f.pcs, "pcs", collateral.IntelPCS, "address of Intel's service, or of a cache (PCCS) that speaks as it does")
	c.Flags().StringVar(&f.rootCRL, "root-crl", collateral.IntelRootCRL, "address of the root's revocation list")
}

// open opens the store, which must exist unless it may be made.
func (f *storeFlags) open(create bool) (*collateral.Store, time.Time, error) {
	now, err := timeOf(f.at)
	if err != nil {
		return nil, now, err
	}
	dir := f.dir
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return nil, now, fmt.Errorf("there is no cache directory: name one with --dir (%w)", err)
		}
		dir = filepath.Join(cache, "vouchmq", "collateral")
	}
	if _, err := os.Stat(dir); err != nil && !create {
		return nil, now, withHint(fmt.Errorf("store of collateral: %w", err), "fill one with: vouchmq collateral fetch")
	}
	s, err := collateral.Open(dir)
	return s, now, err
}

func (f *storeFlags) client() *collateral.Client {
	return &collateral.Client{HTTP: collateral.HTTP(), PCS: strings.TrimSuffix(f.pcs, "/"), RootCRL: f.rootCRL}
}

func timeOf(text string) (time.Time, error) {
	if text == "" {
		return time.Now(), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, fmt.Errorf("--time %q is not a time such as 2026-01-31T12:00:00Z", text)
	}
	return t, nil
}

func newCollateralFetch() *cobra.Command {
	var f storeFlags
	var fmspcs, tees, cas []string
	c := &cobra.Command{
		Use:   "fetch [QUOTE...]",
		Short: "Fetch the documents for the platforms of quotes, or of FMSPCs",
		Long: `Fetch the documents for the platforms of the quotes in files, or of the FMSPCs given, and keep them in the store. With neither, whatever the
store has is fetched anew. Nothing is kept that Intel has not signed, that has expired, or that is older than what was there.

Exit status: 0 all fetched; 1 wrong usage, or something could not be fetched; 2 the service cannot be reached.`,
		Example: `  vouchmq collateral fetch quote.bin
  vouchmq collateral fetch --fmspc 90C06F000000 --tee tdx --ca platform --dir /var/lib/vouchmq/collateral`,
		RunE: func(c *cobra.Command, args []string) error {
			needs, err := needsOf(args, fmspcs, tees, cas)
			if err != nil {
				return err
			}
			return collateralFetch(c, &f, needs)
		},
	}
	helpWithoutShorthand(c)
	f.register(c)
	f.registerService(c)
	c.Flags().StringSliceVar(&fmspcs, "fmspc", nil, "kind of platform, 12 hexadecimal digits")
	c.Flags().StringSliceVar(&tees, "tee", []string{"sgx", "tdx"}, "sgx, tdx, for --fmspc")
	c.Flags().StringSliceVar(&cas, "ca", []string{"platform"}, "authority of the PCK certificates: platform, processor, for --fmspc")
	return c
}

// needsOf reads what quotes in files need, and what FMSPCs do.
func needsOf(files, fmspcs, tees, cas []string) (needs []collateral.Need, err error) {
	for _, name := range files {
		n, err := needOfFile(name)
		if err != nil {
			return nil, fmt.Errorf("%s: %s", name, err)
		}
		needs = append(needs, n)
	}
	for _, text := range fmspcs {
		n := collateral.Need{}
		if n.FMSPC, err = collateral.ParseFMSPC(text); err != nil {
			return nil, fmt.Errorf("--fmspc: %s", err)
		}
		for _, tee := range tees {
			known := map[string]collateral.TEE{"sgx": collateral.SGX, "tdx": collateral.TDX}
			if _, ok := known[tee]; !ok {
				return nil, fmt.Errorf("--tee %q is neither sgx nor tdx", tee)
			}
			n.TEE = known[tee]
			for _, ca := range cas {
				if n.CA = collateral.CA(ca); n.CA != collateral.CAPlatform && n.CA != collateral.CAProcessor {
					return nil, fmt.Errorf("--ca %q is neither platform nor processor", ca)
				}
				needs = append(needs, n)
			}
		}
	}
	return needs, nil
}

func needOfFile(name string) (collateral.Need, error) {
	data, err := readInput(name)
	if err != nil {
		return collateral.Need{}, err
	}
	found, err := detect.Detect(data)
	if err != nil {
		return collateral.Need{}, err
	}
	return collateral.Needed(found.Quote.Data)
}

func collateralFetch(c *cobra.Command, f *storeFlags, needs []collateral.Need) error {
	s, now, err := f.open(len(needs) > 0)
	if err != nil {
		return err
	}
	client := f.client()
	for _, n := range needs {
		if err := s.Fetch(c.Context(), client, n, now); err != nil {
			return fetchFailed(err)
		}
	}
	if len(needs) == 0 {
		const everything = 100 * 365 * 24 * time.Hour
		if _, err := s.Refresh(c.Context(), client, now, everything); err != nil {
			return fetchFailed(err)
		}
	}
	_, err = writeStore(c.OutOrStdout(), s, now)
	return err
}

// fetchFailed drops the kinds of failures of evidence: no evidence has been refused.
func fetchFailed(err error) error {
	if isNetwork(err) {
		return err
	}
	return errors.New(err.Error())
}

func newCollateralShow() *cobra.Command {
	var f storeFlags
	var ask bool
	c := &cobra.Command{
		Use:   "show",
		Short: "Show what the store has: validity, evaluation numbers, revocations",
		Long: `Show what the store has: validity, evaluation numbers (tcbEvaluationDataNumber) and number of revoked certificates. With --ask Intel's service is asked whether it
has announced a TCB recovery, after which platforms without its updates count as out of date.`,
		Example: `  vouchmq collateral show
  vouchmq collateral show --ask`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return collateralShow(c, &f, ask) },
	}
	helpWithoutShorthand(c)
	f.register(c)
	f.registerService(c)
	c.Flags().BoolVar(&ask, "ask", false, "ask whether a TCB recovery is announced")
	return c
}

func collateralShow(c *cobra.Command, f *storeFlags, ask bool) error {
	s, now, err := f.open(false)
	if err != nil {
		return err
	}
	list, err := writeStore(c.OutOrStdout(), s, now)
	if err != nil || !ask {
		return err
	}
	for _, e := range list {
		if e.Name.Kind != collateral.TCBInfo || e.Err != nil {
			continue
		}
		a, err := s.Announced(c.Context(), f.client(), collateral.Need{TEE: e.Name.TEE, FMSPC: e.Name.FMSPC})
		if err != nil {
			return fetchFailed(err)
		}
		if a != nil {
			fmt.Fprintf(c.OutOrStdout(), "WARNING: a TCB recovery is announced for %s: evaluation %d, now %d. Update firmware and TDX module before it is in force.\n", e.Name, a.Next, a.Current)
		}
	}
	return nil
}

// writeStore writes a table of the store's documents, and returns them.
func writeStore(w io.Writer, s *collateral.Store, now time.Time) ([]collateral.Entry, error) {
	list, err := s.List(now)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		fmt.Fprintf(w, "%s has no documents\n", s.Dir())
		return nil, nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "document\tissued\texpires\tevaluation\trevoked\tstate")
	for _, e := range list {
		fmt.Fprintln(t, storeLine(e, now))
	}
	return list, t.Flush()
}

func storeLine(e collateral.Entry, now time.Time) string {
	state := "good"
	switch {
	case e.Err != nil:
		state = "UNUSABLE: " + e.Err.Error()
	case e.Expires.Sub(now) < 7*24*time.Hour:
		state = "good, and expires within a week"
	}
	evaluation, revoked := "", ""
	if e.Name.Kind == collateral.TCBInfo || e.Name.Kind == collateral.QEIdentity {
		evaluation = fmt.Sprint(e.Evaluation)
	} else {
		revoked = fmt.Sprint(e.Revoked)
	}
	return strings.Join([]string{e.Name.String(), moment(e.Issued), moment(e.Expires), evaluation, revoked, state}, "\t")
}

func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

func newCollateralVerify() *cobra.Command {
	var f storeFlags
	c := &cobra.Command{
		Use:   "verify",
		Short: "Check that all documents of the store can be used",
		Long: `Check that all documents of the store can be used: signed by Intel, neither expired nor older than what was seen before.

Exit status: 0 all can be used; 1 wrong usage, or there are none; 3 some cannot, with the date.`,
		Example: `  vouchmq collateral verify --dir /var/lib/vouchmq/collateral`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, now, err := f.open(false)
			if err != nil {
				return err
			}
			list, err := writeStore(c.OutOrStdout(), s, now)
			if err != nil {
				return err
			}
			if len(list) == 0 {
				return withHint(errors.New("the store is empty"), "fill it with: vouchmq collateral fetch")
			}
			var failures []error
			for _, e := range list {
				failures = append(failures, e.Err)
			}
			return refused(errors.Join(failures...))
		},
	}
	helpWithoutShorthand(c)
	f.register(c)
	return c
}
