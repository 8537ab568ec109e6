package bench

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
)

// WriteTable writes the report for people.
func (r Report) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "shape\tvariant\tdeliveries/s\tleast\tmost\tdropped\t\n")
	last := ""
	for _, row := range r.Rows {
		if last != "" && row.Shape != last {
			fmt.Fprintf(t, "\t\t\t\t\t\t\n")
		}
		last = row.Shape
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\t\n",
			row.Shape, row.Variant, thousands(row.Median), thousands(row.Least), thousands(row.Most), row.Dropped)
	}
	if len(r.Ratios) > 0 {
		fmt.Fprintf(t, "\t\t\t\t\t\t\n")
	}
	for _, ratio := range r.Ratios {
		verdict := "reached"
		if !ratio.Met() {
			verdict = "NOT reached"
		}
		fmt.Fprintf(t, "%s\t%s / %s\t%.2f\tgoal %.2f\t%s\t\t\n", ratio.Shape, ratio.Of, ratio.To, ratio.Value, ratio.Goal, verdict)
	}
	return t.Flush()
}

// thousands writes a rate with its groups of three digits apart.
func thousands(f float64) string {
	s := strconv.FormatFloat(f, 'f', 0, 64)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// WriteCSV writes every sample, for plots.
func (r Report) WriteCSV(w io.Writer) error {
	c := csv.NewWriter(w)
	c.Write([]string{"shape", "variant", "deliveries_per_second", "sent", "expected", "delivered"})
	for _, s := range r.Samples {
		c.Write([]string{
			s.Shape, s.Variant, strconv.FormatFloat(s.Rate, 'f', 1, 64),
			strconv.FormatUint(s.Sent, 10), strconv.FormatUint(s.Expected, 10), strconv.FormatUint(s.Delivered, 10),
		})
	}
	c.Flush()
	return c.Error()
}
