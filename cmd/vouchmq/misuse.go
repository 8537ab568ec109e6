package main

import (
	"errors"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
)

// What cobra says of a command line that cannot be carried out. It has no types for that.
var (
	missingFlags  = regexp.MustCompile(`^required flag\(s\) (.*) not set$`)
	missingOneOf  = regexp.MustCompile(`^at least one of the flags in the group \[(.*)\] is required$`)
	flagsTogether = regexp.MustCompile(`^if any flags in the group \[(.*)\] are set (they must all be set|none of the others can be); .*$`)
	unknown       = regexp.MustCompile(`^unknown command ("[^"]*")`)
	arguments     = regexp.MustCompile(`^(accepts|requires) .*arg\(s\), .*received`)
)

// misuse says it in words like those of all other errors, and where the right usage stands.
func misuse(c *cobra.Command, err error) error {
	text := err.Error()
	help := "see: " + c.CommandPath() + " --help"
	switch {
	case missingFlags.MatchString(text):
		names := strings.ReplaceAll(missingFlags.FindStringSubmatch(text)[1], `"`, "")
		return withHint(errors.New("missing: "+flagNames(strings.Split(names, ", "), ", ")), help)
	case missingOneOf.MatchString(text):
		return withHint(errors.New("missing: "+flagNames(strings.Fields(missingOneOf.FindStringSubmatch(text)[1]), " or ")), help)
	case flagsTogether.MatchString(text):
		found := flagsTogether.FindStringSubmatch(text)
		all := flagNames(strings.Fields(found[1]), ", ")
		if strings.HasPrefix(found[2], "none") {
			return withHint(errors.New("only one can be given of "+all), help)
		}
		return withHint(errors.New("all or none must be given of "+all), help)
	case unknown.MatchString(text) && c.HasParent() && !c.HasSubCommands():
		return withHint(errors.New(unknown.FindStringSubmatch(text)[1]+" is one word too many"), "usage: "+c.UseLine())
	case unknown.MatchString(text):
		return withHint(err, help)
	case arguments.MatchString(text):
		return withHint(err, "usage: "+c.UseLine())
	}
	return err
}

func flagNames(names []string, between string) string {
	return "--" + strings.Join(names, between+"--")
}
