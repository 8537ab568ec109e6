package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/internal/server"
	"github.com/vouchmq/vouchmq/internal/server/settings"
)

func newConfig() *cobra.Command {
	c := &cobra.Command{
		Use:   "config",
		Short: "Check and show the configuration of a broker",
		Long: `Check and show the configuration of a broker.

Each key can be set by a variable: VOUCHMQ_, then the key in capitals, with two underscores between levels. Lists of
words are separated by commas. A listener is called by its name in the file.

  VOUCHMQ_LOG__LEVEL=debug
  VOUCHMQ_LISTENERS__SECURE__ADDRESS=0.0.0.0:8883

A flag counts more than a variable, a variable more than the file, the file more than the default.`,
	}
	helpWithoutShorthand(c)
	c.AddCommand(newConfigCheck(), newConfigShow(), newConfigSchema())
	return c
}

func newConfigCheck() *cobra.Command {
	c := &cobra.Command{
		Use:   "check FILE",
		Short: "Say all that is wrong with a configuration, without starting a broker",
		Long: `Say all that is wrong with a configuration, without starting a broker: the file and the variables that change it, the
policy, and the files that they name. Certificates must fit their keys and must not have expired. Nothing is made.

With an owner elsewhere it also prints the digest of the configuration, as the broker's evidence claims it: the owner can compute it
from copies of vouchmq.yaml, the policy and owner-ca.pem, for "config" of a policy.

Exit status: 0 if nothing is wrong; 1 otherwise, with one line for each problem.`,
		Example: `  vouchmq config check vouchmq.yaml`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return check(c.OutOrStdout(), args[0])
		},
	}
	helpWithoutShorthand(c)
	return c
}

// check reads a file, and what it names as far as it can be read.
func check(out io.Writer, name string) error {
	s, err := (&serveFlags{config: name}).read(nil)
	var problems settings.Problems
	if err != nil && !errors.As(err, &problems) {
		return err
	}
	if s == nil {
		return printProblems(out, name, problems)
	}
	opening := server.Opening{Now: time.Now(), Dir: filepath.Dir(name)}
	problems = append(problems, server.Check(s, opening)...)
	problems.Sort()
	if err := printProblems(out, name, problems); err != nil {
		return err
	}
	if digest, known := server.ClaimedConfig(s, opening); known {
		_, err = fmt.Fprintf(out, "config  %v\n", digest)
	}
	return err
}

func printProblems(out io.Writer, name string, problems settings.Problems) error {
	if len(problems) == 0 {
		_, err := fmt.Fprintf(out, "%s: nothing is wrong\n", name)
		return err
	}
	for _, p := range problems {
		fmt.Fprintln(out, p.Error())
	}
	if len(problems) == 1 {
		return fmt.Errorf("%s: 1 problem", name)
	}
	return fmt.Errorf("%s: %d problems", name, len(problems))
}

func newConfigShow() *cobra.Command {
	var f serveFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "show [--config FILE]",
		Short: "Print the configuration in force, and where each value comes from",
		Long: `Print the configuration that serve would run with, and where each value comes from: a line of the file, a variable, a
flag, or the default. Secrets are not printed. Without --config it is that of a development broker.`,
		Example: `  vouchmq config show --config vouchmq.yaml
  vouchmq config show --config vouchmq.yaml --log-level debug`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := f.read(c.Flags())
			if err != nil {
				return explainSettings(err)
			}
			return printSettings(c.OutOrStdout(), s, asJSON)
		},
	}
	helpWithoutShorthand(c)
	f.define(c)
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return c
}

func printSettings(out io.Writer, s *settings.Settings, asJSON bool) error {
	lines := s.Show()
	if asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(lines)
	}
	width := 0
	for _, l := range lines {
		width = max(width, min(len(l.String()), 60))
	}
	for _, l := range lines {
		if _, err := fmt.Fprintf(out, "%-*s  # %s\n", width, l, l.Origin); err != nil {
			return err
		}
	}
	return nil
}

func newConfigSchema() *cobra.Command {
	c := &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON schema of the configuration file, for editors",
		Long: `Print the JSON schema (draft 2020-12) of the configuration file. Editors with a YAML language server use it if the file
begins with this line and the schema is beside it:

  # yaml-language-server: $schema=vouchmq.schema.json`,
		Example: `  vouchmq config schema`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			b, err := settings.Schema(server.Defaults())
			if err != nil {
				return err
			}
			_, err = c.OutOrStdout().Write(b)
			return err
		},
	}
	helpWithoutShorthand(c)
	return c
}
