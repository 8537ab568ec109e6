package main

import (
	"errors"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/terminal"
	"github.com/vouchmq/vouchmq/internal/admin"
)

func newRetained() *cobra.Command {
	c := newRetainedList()
	c.Use, c.Short = "retained", "See the retained messages of a running broker, or clear them"
	c.Args = cobra.NoArgs
	c.AddCommand(newRetainedList(), newRetainedClear())
	return c
}

func newRetainedList() *cobra.Command {
	var a administration
	return a.addTo(&cobra.Command{
		Use:   "list [FILTER]",
		Short: "List retained messages",
		Long: `List retained messages: all, or those whose topic matches a topic filter. Payloads are not shown: subscribe to see
them. Topics that begin with $ are shown only if the filter names them.`,
		Example: `  vouchmq retained list
  vouchmq retained list 'sensors/#' --json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			filter := "#"
			if len(args) == 1 {
				filter = args[0]
			}
			client := a.client()
			defer client.Close()
			heads := []string{"TOPIC", "BYTES", "QOS", "EXPIRES"}
			return list(&a, c.OutOrStdout(), client.Retained(c.Context(), filter), heads, retainedRow)
		},
	})
}

func retainedRow(r admin.Retained) []string {
	expires := "never"
	if r.ExpiresIn != 0 {
		expires = number(r.ExpiresIn) + " s"
	}
	return []string{r.Topic, number(r.Bytes), strconv.Itoa(int(r.QoS)), expires}
}

func newRetainedClear() *cobra.Command {
	var a administration
	return a.addTo(&cobra.Command{
		Use:   "clear FILTER",
		Short: "Remove retained messages",
		Long: `Remove the retained messages whose topic matches a topic filter. Nobody is told, and it cannot be undone: list them
first.`,
		Example: `  vouchmq retained clear 'sensors/old/#'`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return withHint(errors.New("which retained messages? Give one topic filter"), "# stands for all of them: vouchmq retained clear '#'")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			client := a.client()
			defer client.Close()
			n, err := client.ClearRetained(c.Context(), args[0])
			if err != nil {
				return err
			}
			return a.done(c, admin.Done{Count: n}, "removed %d retained messages that match %s", n, terminal.Text(args[0]))
		},
	})
}
