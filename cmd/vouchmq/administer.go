package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/terminal"
	"github.com/vouchmq/vouchmq/internal/admin"
	"github.com/vouchmq/vouchmq/internal/server"
)

// socketEnv names the socket for all commands that administer a broker.
const socketEnv = "VOUCHMQ_ADMIN_SOCKET"

// administration is what the commands share that administer a running broker.
type administration struct {
	socket string
	asJSON bool
}

// exitOfAdministration is what their help says of exit statuses.
const exitOfAdministration = `

Exit status: 0 done; 1 wrong usage, or another error; 2 no broker listens on the socket; 4 the broker did not do it.`

// addTo gives a command the flags, and its help the exit statuses.
func (a *administration) addTo(c *cobra.Command) *cobra.Command {
	helpWithoutShorthand(c)
	c.Long += exitOfAdministration
	c.Flags().StringVar(&a.socket, "socket", "", "socket of the broker (default: $"+socketEnv+", or that of a development broker)")
	c.Flags().BoolVar(&a.asJSON, "json", false, "print JSON")
	return c
}

// client is for the broker of --socket, of the environment, or of a development broker in this folder.
func (a *administration) client() *admin.Client {
	socket := a.socket
	if socket == "" {
		socket = os.Getenv(socketEnv)
	}
	if socket == "" {
		socket = filepath.Join(server.DevelopmentDir, admin.SocketFile)
	}
	return admin.NewClient(socket)
}

// done says that something was done, in words or as JSON.
func (a *administration) done(c *cobra.Command, v any, format string, args ...any) error {
	if a.asJSON {
		return printJSON(c.OutOrStdout(), v)
	}
	_, err := fmt.Fprintf(c.OutOrStdout(), format+"\n", args...)
	return err
}

// list prints a list as it comes: as a table, or as an array of JSON with one line for each thing.
func list[T any](a *administration, w io.Writer, all iter.Seq2[T, error], heads []string, row func(T) []string) error {
	if a.asJSON {
		return listJSON(w, all)
	}
	table := terminal.NewTable(w, heads...) // writes nothing yet
	rows := 0
	for item, err := range all {
		switch {
		case err != nil && rows == 0:
			return err
		case err != nil:
			return errors.Join(err, table.Close()) // what came before is still of use
		}
		rows++
		if err := table.Row(row(item)...); err != nil {
			return err
		}
	}
	return table.Close()
}

func listJSON[T any](w io.Writer, all iter.Seq2[T, error]) error {
	before := "[\n  "
	for item, err := range all {
		if err != nil {
			return err
		}
		b, err := json.Marshal(item)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "%s%s", before, b); err != nil {
			return err
		}
		before = ",\n  "
	}
	end := "\n]\n"
	if before[0] == '[' {
		end = "[]\n"
	}
	_, err := io.WriteString(w, end)
	return err
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
