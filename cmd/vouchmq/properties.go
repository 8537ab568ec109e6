package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/pubsub"
)

// propertySeparator stands between the words of one property. No argument can contain it.
const propertySeparator = "\x00"

// joinProperties makes one argument of the three or four words after -D, as mosquitto_pub takes them, for the
// parser of flags knows only flags with one value.
func joinProperties(args []string) []string {
	if len(args) == 0 || (args[0] != "pub" && args[0] != "sub") {
		return args
	}
	var out []string
	for i := 0; i < len(args); i++ {
		if args[i] == "--" {
			return append(out, args[i:]...)
		}
		if args[i] != "-D" && args[i] != "--property" {
			out = append(out, args[i])
			continue
		}
		words := args[i+1:]
		n := 3
		if len(words) > 1 && words[1] == "user-property" {
			n = 4
		}
		n = min(n, len(words))
		out = append(out, "--property="+strings.Join(words[:n], propertySeparator))
		i += n
	}
	return out
}

// propertyFlag is the flag -D: properties by packet.
type propertyFlag map[string]pubsub.Properties

func (f propertyFlag) String() string { return "" }
func (f propertyFlag) Type() string   { return "packet name value" }

func (f propertyFlag) Set(s string) error {
	packet, p, err := pubsub.ParseProperty(strings.Split(s, propertySeparator))
	if err != nil {
		return err
	}
	f[packet] = append(f[packet], p)
	return nil
}

// helpWithoutShorthand leaves -h to the host, as in mosquitto_pub.
func helpWithoutShorthand(c *cobra.Command) {
	c.Flags().Bool("help", false, "show this help")
}
