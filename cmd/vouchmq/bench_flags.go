package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// ratesFlag is a list of numbers that is written as people write it: pflag's own has six digits behind each point.
type ratesFlag struct {
	list  *[]float64
	given bool // so that what is given first replaces the default
}

func addRates(fs *pflag.FlagSet, list *[]float64, usual []float64, usage string) {
	*list = usual
	fs.Var(&ratesFlag{list: list}, "rate", usage)
}

// Type implements pflag.Value.
func (*ratesFlag) Type() string { return "numbers" }

// String implements pflag.Value.
func (f *ratesFlag) String() string {
	if f.list == nil {
		return ""
	}
	var words []string
	for _, n := range *f.list {
		words = append(words, strconv.FormatFloat(n, 'f', -1, 64))
	}
	return strings.Join(words, ",")
}

// Set implements pflag.Value.
func (f *ratesFlag) Set(text string) error {
	var more []float64
	for word := range strings.SplitSeq(text, ",") {
		n, err := strconv.ParseFloat(strings.TrimSpace(word), 64)
		if err != nil {
			return fmt.Errorf("%q is not a number", word)
		}
		more = append(more, n)
	}
	if !f.given {
		*f.list, f.given = nil, true
	}
	*f.list = append(*f.list, more...)
	return nil
}

// completeWords has the shell complete the words of a flag that takes several, with commas between them.
func completeWords(c *cobra.Command, flag string, words []string) {
	c.RegisterFlagCompletionFunc(flag, func(_ *cobra.Command, _ []string, typed string) (all []string, _ cobra.ShellCompDirective) {
		before := typed[:strings.LastIndexByte(typed, ',')+1]
		for _, word := range words {
			all = append(all, before+word)
		}
		return all, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	})
}
